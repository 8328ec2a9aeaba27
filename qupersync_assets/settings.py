"""Settings from environment variables, validated once, at load."""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo, available_timezones

from pydantic import (
    AfterValidator,
    Field,
    ModelWrapValidatorHandler,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError
from pydantic_settings import BaseSettings, SettingsConfigDict

from qupersync_assets.errors import redact
from qupersync_assets.login import login_faults

Port = Annotated[int, Field(ge=1, le=65535)]
Filled = Annotated[str, Field(min_length=1)]
# Servers count them in milliseconds, as a 32-bit integer.
Seconds = Annotated[int, Field(ge=1, le=2_000_000)]


def _time_zone(name: str) -> str:
    if name not in available_timezones():
        raise ValueError("allowed is an IANA time zone such as US/Pacific, UTC or Europe/Berlin")
    return name


def _account_id(number: str) -> str:
    if not re.fullmatch(r"\d{12}", number):
        raise ValueError("allowed is an AWS account number of 12 digits")
    return number


def _secret_arn(arn: str) -> str:
    # https://docs.aws.amazon.com/secretsmanager/latest/userguide/reference_iam-permissions.html
    if not re.fullmatch(r"arn:aws[a-z-]*:secretsmanager:[a-z0-9-]+:\d{12}:secret:\S+", arn):
        raise ValueError("allowed is arn:aws:secretsmanager:REGION:ACCOUNT:secret:NAME")
    return arn


def _ca_file(path: Path) -> Path:
    """The absolute path, because the processes that connect may work in another folder."""
    try:
        authorities = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        authorities.load_verify_locations(path)
    except OSError as error:
        raise ValueError(
            f"allowed is a file of PEM certificates; this is not one: {error.strerror}"
        ) from None
    return path.resolve()


class SettingsError(ValueError):
    """Environment variables are missing or have values that are not allowed; the text names each one."""


class Settings(BaseSettings):
    """Every setting of QuperSync, under the name of its environment variable in lower case."""

    model_config = SettingsConfigDict(
        frozen=True, extra="ignore", env_ignore_empty=True, hide_input_in_errors=True
    )

    sync_interval: Annotated[int, Field(ge=10, le=31 * 86400)] = Field(
        300, description="Seconds between two syncs, 10 or more."
    )
    sync_batch_size: Annotated[int, Field(ge=1, le=100_000)] = Field(
        1000, description="Rows read from Redshift at a time, and written in one transaction."
    )
    sync_lookback: Annotated[int, Field(ge=0, le=7 * 86400)] = Field(
        3600, description="Seconds before the newest known row that are read again, as Redshift logs late."
    )
    sync_include_self: bool = Field(
        False, description="Whether query_history has QuperSync's own queries too."
    )
    sync_timezone: Annotated[str, AfterValidator(_time_zone)] = Field(
        "US/Pacific", description="Time zone of the schedule (data are always UTC)."
    )
    sync_misfire_grace: Annotated[int, Field(ge=1)] = Field(
        60, description="Seconds that a tick may come late; a later one is skipped."
    )
    sync_max_skipped_ratio: Annotated[float, Field(ge=0, le=1)] = Field(
        0.05, description="Share of skipped rows above which the check no_skipped_rows is an error."
    )
    sync_max_retries: Annotated[int, Field(ge=0, le=20)] = Field(
        3, description="How often a sync job is tried again after a transient failure."
    )
    sync_retry_delay: Annotated[float, Field(ge=0, le=3600)] = Field(
        5, description="Seconds before the first of these retries; each further one waits twice as long."
    )
    quper_retention_days: Annotated[int, Field(ge=8)] | None = Field(
        None,
        description="Days that rows of the history tables are kept, 8 or more, as Redshift holds 7; "
        "all are kept if it is not set.",
    )
    sync_log_retention_days: Annotated[int, Field(ge=1)] = Field(
        90, description="Days that rows of quper.sync_logs and quper.skipped_rows are kept."
    )
    dagster_run_retention_days: Annotated[int, Field(ge=1)] = Field(
        14, description="Days that Dagster's runs and their events are kept; the last 100 always are."
    )
    sync_auto_migrate: bool = Field(
        True, description="Whether a sync brings the schema quper up to date; else `qupersync migrate` does."
    )
    sync_query_text: Literal["full", "redacted", "none"] = Field(
        "full", description="Texts of statements: full, redacted (literals become ?) or none (NULL)."
    )
    cluster_name: Filled = Field(
        "default", description="Name of the Redshift cluster; the first column of every key."
    )

    # Which of them are needed depends on the login: `login_faults`.
    redshift_host: str | None = Field(
        None,
        description="Endpoint of the Redshift cluster or workgroup; with IAM or a secret AWS may tell it.",
    )
    redshift_port: Port = Field(5439, description="Its port.")
    redshift_database: str | None = Field(None, description="Database to connect to; a secret may tell it.")
    redshift_user: str | None = Field(
        None, description="User to connect as; Serverless with IAM, or a secret, tells it."
    )
    redshift_password: SecretStr | None = Field(None, description="Password of that user. A secret.")
    redshift_iam: bool = Field(
        False, description="Whether to log in with temporary credentials of AWS IAM, instead of a password."
    )
    redshift_cluster_identifier: str | None = Field(
        None, description="IAM: the cluster's identifier, for a provisioned cluster."
    )
    redshift_workgroup: str | None = Field(None, description="IAM: the workgroup's name, for Serverless.")
    redshift_account_id: Annotated[str, AfterValidator(_account_id)] | None = Field(
        None, description="IAM: the workgroup's AWS account, 12 digits; the host usually tells it."
    )
    redshift_region: str | None = Field(None, description="IAM: the AWS region; the host usually tells it.")
    redshift_secret_arn: Annotated[str, AfterValidator(_secret_arn)] | None = Field(
        None, description="Secret in AWS Secrets Manager that holds user and password, instead of the two."
    )
    redshift_profile: str | None = Field(
        None, description="Profile of the AWS configuration files; without it and keys, boto3's own search."
    )
    redshift_access_key_id: SecretStr | None = Field(None, description="AWS access key. A secret.")
    redshift_secret_access_key: SecretStr | None = Field(
        None, description="The access key's secret half. A secret."
    )
    redshift_session_token: SecretStr | None = Field(
        None, description="Session token of a temporary access key. A secret."
    )
    redshift_ssl: bool = Field(True, description="Whether to insist on TLS.")
    redshift_sslmode: Literal["verify-ca", "verify-full"] = Field(
        "verify-full", description="What TLS verifies: the CA, or the CA and the host name."
    )
    redshift_ssl_ca: Annotated[Path, AfterValidator(_ca_file)] | None = Field(
        None, description="PEM file of a private CA, trusted besides the CAs of AWS."
    )
    redshift_connect_timeout: Seconds = Field(10, description="Seconds to wait for a connection.")
    redshift_statement_timeout: Seconds = Field(
        300, description="Seconds that Redshift may work on one statement."
    )

    postgres_host: Filled = Field(description="Host of the target PostgreSQL.")
    postgres_port: Port = Field(5432, description="Its port.")
    postgres_database: Filled = Field(description="Database that holds the schema quper.")
    postgres_user: Filled = Field(description="User to connect as.")
    postgres_password: SecretStr | None = Field(None, description="Password of that user. A secret.")
    postgres_sslmode: Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"] = Field(
        "prefer", description="TLS towards PostgreSQL, as libpq's sslmode."
    )
    postgres_connect_timeout: Seconds = Field(10, description="Seconds to wait for a connection.")
    postgres_statement_timeout: Seconds = Field(120, description="Seconds that one statement may take.")

    ui_host: Filled = Field("127.0.0.1", description="Address that the Dagster UI listens on.")
    ui_port: Port = Field(3000, description="Port of the Dagster UI.")

    @model_validator(mode="wrap")
    @classmethod
    def _check_login(cls, values: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """Tell the faults of the combination together with those of single variables."""
        problems: list[InitErrorDetails] = [
            {"type": PydanticCustomError("login", "{text}", {"text": text}), "loc": (field,), "input": None}
            if text
            else {"type": "missing", "loc": (field,), "input": None}
            for field, text in login_faults(values)
        ]
        try:
            settings = handler(values)
        except ValidationError as error:
            problems += [_again(dict(problem)) for problem in error.errors()]
        if problems:
            raise ValidationError.from_exception_data(cls.__name__, problems, hide_input=True)
        return settings

    @classmethod
    def load(cls) -> Settings:
        """The settings of the process's environment.

        Raises:
            SettingsError: with one line for each variable that is missing or not allowed.
        """
        try:
            return cls()  # type: ignore[call-arg]  # fields come from the environment
        except ValidationError as error:
            lines = [_explain(cls, dict(problem)) for problem in error.errors()]
        raise SettingsError(redact("\n".join(["Check these environment variables:", *lines])))

    @property
    def max_silence(self) -> float:
        """Seconds without a sign of life after which a run that nobody vouches for is taken for dead."""
        return 2.0 * self.sync_interval

    def time_zone(self) -> ZoneInfo:
        """The time zone of the schedule."""
        return ZoneInfo(self.sync_timezone)

    def environment(self) -> dict[str, str]:
        """Every setting as an environment variable, defaults included; secrets in clear."""
        values: Mapping[str, Any] = self.model_dump()
        clear = {k: v.get_secret_value() if isinstance(v, SecretStr) else v for k, v in values.items()}
        return {
            k.upper(): str(v).lower() if isinstance(v, bool) else str(v)
            for k, v in clear.items()
            if v is not None
        }


def secrets() -> frozenset[str]:
    """The fields that hold secrets."""
    return frozenset(n for n, f in Settings.model_fields.items() if "SecretStr" in str(f.annotation))


def _again(problem: dict[str, Any]) -> InitErrorDetails:
    """A problem that pydantic has told, in the form that it takes."""
    return InitErrorDetails(
        type=problem["type"], loc=problem["loc"], input=problem["input"], ctx=problem.get("ctx", {})
    )


def _explain(settings: type[Settings], problem: dict[str, Any]) -> str:
    """One line: the variable, its value unless it is secret, what is allowed."""
    field = str(problem["loc"][0])
    variable = field.upper()
    if problem["type"] == "missing":
        return f"  {variable} is not set. {settings.model_fields[field].description}"
    message = str(problem["msg"]).removeprefix("Value error, ")
    shown = problem["type"] != "login" and field not in secrets()
    value = f"={problem['input']!r}" if shown else ""
    return f"  {variable}{value}: {message}. {settings.model_fields[field].description}"
