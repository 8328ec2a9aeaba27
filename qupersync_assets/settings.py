"""Settings from environment variables, validated once, at load. Imports nothing of ours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, available_timezones

from pydantic import AfterValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

Port = Annotated[int, Field(ge=1, le=65535)]
Filled = Annotated[str, Field(min_length=1)]
# Servers count them in milliseconds, as a 32-bit integer.
Seconds = Annotated[int, Field(ge=1, le=2_000_000)]


def _time_zone(name: str) -> str:
    if name not in available_timezones():
        raise ValueError("allowed is an IANA time zone such as US/Pacific, UTC or Europe/Berlin")
    return name


class SettingsError(ValueError):
    """Environment variables are missing or have values that are not allowed; the text names each one."""


class Settings(BaseSettings):
    """Every setting of QuperSync, under the name of its environment variable in lower case."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_ignore_empty=True)

    sync_interval: Annotated[int, Field(ge=10, le=31 * 86400)] = Field(
        300, description="Seconds between two syncs, 10 or more."
    )
    sync_batch_size: Annotated[int, Field(ge=1, le=100_000)] = Field(
        1000, description="Rows read from Redshift at a time, and written in one transaction."
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
    cluster_name: Filled = Field(
        "default", description="Name of the Redshift cluster; the first column of every key."
    )

    redshift_host: Filled = Field(description="Endpoint of the Redshift cluster or workgroup.")
    redshift_port: Port = Field(5439, description="Its port.")
    redshift_database: Filled = Field(description="Database to connect to.")
    redshift_user: Filled = Field(description="User to connect as.")
    redshift_password: SecretStr | None = Field(None, description="Password of that user. A secret.")
    redshift_ssl: bool = Field(True, description="Whether to insist on TLS.")
    redshift_sslmode: Literal["verify-ca", "verify-full"] = Field(
        "verify-full", description="What TLS verifies: the CA, or the CA and the host name."
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
        raise SettingsError("\n".join(["Check these environment variables:", *lines]))

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


def _explain(settings: type[Settings], problem: dict[str, Any]) -> str:
    """One line: the variable, its value unless it is secret, what is allowed."""
    field = str(problem["loc"][0])
    variable = field.upper()
    if problem["type"] == "missing":
        return f"  {variable} is not set. {settings.model_fields[field].description}"
    message = str(problem["msg"]).removeprefix("Value error, ")
    value = "" if "password" in field else f"={problem['input']!r}"
    return f"  {variable}{value}: {message}. {settings.model_fields[field].description}"
