"""The settings of a source: REDSHIFT_* of the one cluster, or REDSHIFT_<NAME>_* of each of several."""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    PrivateAttr,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from qupersync_assets.core.redaction import redact
from qupersync_assets.settings.redshift_login import login_faults, renamed

REDSHIFT = "REDSHIFT"
Port = Annotated[int, Field(ge=1, le=65535)]
# Servers count them in milliseconds, as a 32-bit integer.
Seconds = Annotated[int, Field(ge=1, le=2_000_000)]
# What says which cluster it is, and what proves who we are. Shared, it would copy one cluster under the name
# of another, or tell one cluster the password of another.
OF_ONE_CLUSTER = frozenset(
    f"redshift_{name}"
    for name in (
        *("host", "cluster_identifier", "workgroup", "account_id", "secret_arn", "password"),
        *("profile", "access_key_id", "secret_access_key", "session_token"),
    )
)


class SettingsError(ValueError):
    """Environment variables are missing or have values that are not allowed; the text names each one.

    Attributes:
        lines: one for each of them.
    """

    def __init__(self, lines: list[str]) -> None:
        self.lines = lines
        super().__init__(redact("\n".join(["Check these environment variables:", *lines])))


def cluster_names(text: str) -> list[str]:
    """The names in the value of CLUSTERS.

    Raises:
        ValueError: one cannot be told from another, or be a part of a variable's name.
    """
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise ValueError("allowed are names with one comma between two; one of these is empty")
    prefixes: dict[str, str] = {}
    for name in names:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name):
            raise ValueError(f"allowed in a name are letters, digits, - and _, unlike in {name!r}")
        other = prefixes.setdefault(prefix_of(name), name)
        if names.count(name) > 1:
            raise ValueError(f"{name!r} is named twice")
        if other != name:
            raise ValueError(f"{other!r} and {name!r} would have the same variables, {prefix_of(name)}_*")
    return names


def prefix_of(cluster: str) -> str:
    """What the variables of one of several clusters begin with: REDSHIFT_ and its name in capitals."""
    return f"{REDSHIFT}_{cluster.upper().replace('-', '_')}"


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


class RedshiftSettings(BaseModel):
    """Every setting of a source, under the name of its variable where there is one cluster, in lower case."""

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

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

    _prefix: str = PrivateAttr(REDSHIFT)

    @model_validator(mode="wrap")
    @classmethod
    def _check_login(cls, values: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """Tell the faults of the combination together with those of single variables."""
        problems: list[InitErrorDetails] = [
            {"type": PydanticCustomError("login", "{text}", {"text": text}), "loc": (field,), "input": None}
            if text
            else {"type": "missing", "loc": (field,), "input": None}
            for field, text in cls._faults(values)
        ]
        try:
            settings = handler(values)
        except ValidationError as error:
            problems += [_again(dict(problem)) for problem in error.errors()]
        if problems:
            raise ValidationError.from_exception_data(cls.__name__, problems, hide_input=True)
        return settings

    @classmethod
    def _faults(cls, values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """What is wrong with a combination of settings: see `login_faults`."""
        return login_faults(values)

    @property
    def prefix(self) -> str:
        """What the variables of this source begin with: REDSHIFT, or REDSHIFT_<NAME>."""
        return self._prefix

    def variable(self, field: str) -> str:
        """The environment variable of a field."""
        return renamed(field.upper(), self._prefix)

    @classmethod
    def of_cluster(cls, cluster: str, environment: Mapping[str, str]) -> RedshiftSettings:
        """The settings of one of several clusters.

        What has no variable of its own comes from the general one, unless it is of OF_ONE_CLUSTER or the
        cluster's way to log in has no use for it.

        Args:
            environment: by variable, in lower case; none is empty.

        Raises:
            SettingsError: with one line for each variable that is missing or not allowed.
        """
        variables = {field: renamed(field.upper(), prefix_of(cluster)) for field in cls.model_fields}
        own = {f: environment[v.lower()] for f, v in variables.items() if v.lower() in environment}
        general = cls.model_fields.keys() - OF_ONE_CLUSTER - own.keys()
        shared = {field: environment[field] for field in general if field in environment}
        for field, text in login_faults({**shared, **own}):
            if text:
                shared.pop(field, None)
        variables |= {field: field.upper() for field in shared}
        try:
            settings = cls.model_validate({**shared, **own})
        except ValidationError as error:
            lines = explain(cls, error, variables, prefix_of(cluster))
        else:
            settings._prefix = prefix_of(cluster)
            return settings
        raise SettingsError(lines)


def explain(
    model: type[BaseModel], error: ValidationError, variables: Mapping[str, str] = {}, prefix: str = REDSHIFT
) -> list[str]:
    """One line for each fault: the variable, its value unless it is secret, what is allowed.

    Args:
        variables: by field, where it is not the field's name in capitals.
        prefix: what the variables of the source begin with.
    """
    return [_line(model, dict(problem), variables, prefix) for problem in error.errors()]


def _line(model: type[BaseModel], problem: dict[str, Any], variables: Mapping[str, str], prefix: str) -> str:
    field = str(problem["loc"][0])
    variable = variables.get(field, field.upper())
    description = model.model_fields[field].description
    if problem["type"] == "missing":
        return f"  {variable} is not set. {description}"
    message = str(problem["msg"]).removeprefix("Value error, ")
    if problem["type"] == "login":
        return f"  {variable}: {renamed(message, prefix)}. {description}"
    value = "" if is_secret(model, field) else f"={problem['input']!r}"
    return f"  {variable}{value}: {message}. {description}"


def is_secret(model: type[BaseModel], field: str) -> bool:
    """Whether a field holds a secret."""
    return "SecretStr" in str(model.model_fields[field].annotation)


def _again(problem: dict[str, Any]) -> InitErrorDetails:
    """A problem that pydantic has told, in the form that it takes."""
    return InitErrorDetails(
        type=problem["type"], loc=problem["loc"], input=problem["input"], ctx=problem.get("ctx", {})
    )
