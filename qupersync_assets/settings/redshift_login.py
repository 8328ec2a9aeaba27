"""The logins to Redshift: one model for each, with the variables REDSHIFT_* that it uses.

A variable that a login does not use is an error, which names the logins that use it.
"""

import re
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Union

from pydantic import (
    AfterValidator,
    BaseModel,
    Discriminator,
    Field,
    SecretStr,
    Tag,
    TypeAdapter,
    ValidationInfo,
    field_validator,
)

from qupersync_assets.core.quiet_hours import check_quiet_hours
from qupersync_assets.settings.errors import REDSHIFT, check_names, combination_error

Port = Annotated[int, Field(ge=1, le=65535)]
# Servers count them in milliseconds, as a 32-bit integer.
Seconds = Annotated[int, Field(ge=1, le=2_000_000)]
# Seconds between two syncs.
Interval = Annotated[int, Field(ge=10, le=31 * 86400)]

# https://docs.aws.amazon.com/redshift/latest/mgmt/serverless-connecting.html: a host may contain its region.
_HOST_WITH_REGION = re.compile(r".+\.[a-z]+(-[a-z]+)+-\d\.redshift(-serverless)?\.amazonaws\.com(\..+)?")

# Fields that some logins require and others do not.
_HOST = Field(
    description="Endpoint of the cluster or workgroup. With IAM or a secret it is optional: AWS reports it.",
    examples=["my-cluster.abc123.us-west-2.redshift.amazonaws.com"],
)
_DATABASE = Field(description="Database to connect to; optional if a secret contains it.", examples=["dev"])
_USER = Field(
    description="User to connect as; not used with a secret or with IAM for Serverless.", examples=["qupersync_reader"]
)


def _ca_file(path: Path, info: ValidationInfo) -> Path:
    if info.data.get("ssl") is False:
        raise combination_error("allowed only with REDSHIFT_SSL=true")
    return check_pem(path)


def check_pem(path: Path) -> Path:
    """Return the absolute path of a file of certificates; a ValueError if it is none."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except OSError as error:
        raise ValueError(f"allowed is a file of PEM certificates; this is not one: {error.strerror}") from None
    return path.resolve()  # the processes that connect may work in another folder


def _databases(text: str) -> str:
    names = check_names(text)
    if "*" in names.split(",") and names != "*":
        raise ValueError("allowed is * alone, or names")
    return names


class RedshiftSettings(
    BaseModel,
    extra="forbid",
    frozen=True,
    hide_input_in_errors=True,
    use_attribute_docstrings=True,
    validate_default=True,
):
    """The settings of one Redshift cluster that each login uses; a field is a variable without its prefix."""

    host: Annotated[str | None, _HOST] = None
    port: Port = Field(5439, description="Port of that endpoint.")
    database: Annotated[str | None, _DATABASE] = None
    databases: Annotated[str, AfterValidator(_databases)] | None = None
    """Databases whose tables and columns are synced, separated by commas, or * for all; default: REDSHIFT_DATABASE."""
    iam: bool = False
    """Whether to log in with temporary credentials of AWS IAM instead of a password."""
    ssl: bool = Field(True, description="Whether to require TLS.")
    sslmode: Literal["verify-ca", "verify-full"] = "verify-full"
    """What TLS verifies: the CA, or the CA and the host name."""
    ssl_ca: Annotated[Path, AfterValidator(_ca_file)] | None = None
    """PEM file of a private CA, trusted in addition to the CAs of AWS."""
    connect_timeout: Seconds = Field(10, description="Seconds to wait for a connection.")
    statement_timeout: Seconds = Field(300, description="Seconds that one statement may take in Redshift.")
    sync_jobs: Annotated[str, AfterValidator(check_names)] | None = None
    """The sync jobs of this cluster, instead of SYNC_JOBS."""
    sync_interval: Interval | None = None
    """Seconds between two syncs of this cluster, instead of SYNC_INTERVAL."""
    price_per_hour: float | None = Field(
        None, ge=0, description="Price of one hour of the cluster, for the costs in quper.health_cost."
    )
    quiet_hours: Annotated[str, AfterValidator(check_quiet_hours)] | None = None
    """Times of day without scheduled syncs, in SYNC_TIMEZONE: 20:00-06:00, or 00:00-06:00,22:00-24:00."""

    @field_validator("host")
    @classmethod
    def _check_host(cls, host: str | None) -> str | None:
        # The console shows host:port/database, or a URL. It may contain a password; the driver knows IPv4 only.
        if host is not None and not re.fullmatch(r"[^\s:/@?#,;\[\]]+", host):
            problem = "allowed is the name of a host or its IPv4 address, without jdbc:redshift:// before it"
            raise combination_error(f"{problem}; port and database belong in REDSHIFT_PORT and REDSHIFT_DATABASE")
        return host

    # The variables that select a login, and those to check when it fails.
    method: ClassVar[str]
    checks: ClassVar[str]
    _prefix: str = REDSHIFT
    _from_environment: bool = True

    @property
    def prefix(self) -> str:
        """What the variables of this cluster begin with: REDSHIFT, or REDSHIFT_<NAME>."""
        return self._prefix

    @property
    def from_environment(self) -> bool:
        """Whether the values are those of variables, which may change."""
        return self._from_environment

    def identity(self) -> str:
        """Return a text that differs for each login. It contains the secrets: do not store or show it."""
        values = {name: getattr(self, name) for name in type(self).model_fields}
        return repr([(n, v.get_secret_value() if isinstance(v, SecretStr) else str(v)) for n, v in values.items()])

    @property
    def endpoint(self) -> str:
        """Host and port, for messages."""
        return f"{self.host or 'the endpoint that AWS reports'}:{self.port}"


class PasswordLogin(RedshiftSettings):
    """A user and a password. A server that asks for none accepts a user without one."""

    method = "a password"
    checks = "REDSHIFT_USER and REDSHIFT_PASSWORD"
    host: Annotated[str, _HOST]
    database: Annotated[str, _DATABASE]
    user: Annotated[str, _USER]
    password: SecretStr | None = Field(None, description="Password of that user. A secret.", examples=["change-me"])


class AwsLogin(RedshiftSettings):
    """A login for which AWS returns the password; without keys and profile boto3 finds the AWS identity."""

    access_key_id: SecretStr | None = Field(None, description="AWS access key ID. A secret.")
    secret_access_key: SecretStr | None = Field(None, description="AWS secret access key. A secret.")
    session_token: SecretStr | None = Field(None, description="Session token of a temporary AWS access key. A secret.")
    profile: str | None = Field(None, description="Profile of the AWS configuration files, instead of an access key.")

    @field_validator("secret_access_key", "session_token", "profile")
    @classmethod
    def _check_access_key(cls, value: SecretStr | str | None, info: ValidationInfo) -> SecretStr | str | None:
        has_key = info.data.get("access_key_id") is not None
        if value and has_key and info.field_name == "profile":
            raise combination_error("allowed is this or REDSHIFT_ACCESS_KEY_ID, not both")
        if value and not has_key and info.field_name != "profile":
            raise combination_error("allowed only with REDSHIFT_ACCESS_KEY_ID")
        if not value and has_key and info.field_name == "secret_access_key":
            raise combination_error("REDSHIFT_ACCESS_KEY_ID needs it")
        return value


class IamLogin(AwsLogin):
    """Temporary credentials of IAM."""

    database: Annotated[str, _DATABASE]
    region: str | None = Field(None, description="IAM: AWS region; not needed if the host contains it.")

    @field_validator("ssl")
    @classmethod
    def _check_tls(cls, value: bool) -> bool:
        if not value:
            raise combination_error("allowed with REDSHIFT_IAM=true is true")
        return value

    @field_validator("region")
    @classmethod
    def _check_region(cls, value: str | None, info: ValidationInfo) -> str | None:
        if not value and not _HOST_WITH_REGION.fullmatch(str(info.data.get("host"))):
            raise combination_error("REDSHIFT_IAM=true needs it, as REDSHIFT_HOST does not contain the region")
        return value


class IamClusterLogin(IamLogin):
    """Temporary credentials of IAM for a user of a provisioned cluster."""

    method = "REDSHIFT_IAM=true and REDSHIFT_CLUSTER_IDENTIFIER"
    checks = "REDSHIFT_CLUSTER_IDENTIFIER, REDSHIFT_USER, REDSHIFT_REGION and the AWS identity's privileges"
    user: Annotated[str, _USER]
    cluster_identifier: str
    """IAM: identifier of a provisioned cluster; for Serverless set REDSHIFT_WORKGROUP instead."""


class IamServerlessLogin(IamLogin):
    """Temporary credentials of IAM for a workgroup of Serverless, where the AWS identity is the user."""

    method = "REDSHIFT_IAM=true and REDSHIFT_WORKGROUP"
    checks = "REDSHIFT_WORKGROUP, REDSHIFT_REGION and the AWS identity's privileges"
    workgroup: str = Field(description="IAM: name of the workgroup, for Serverless.")
    account_id: str | None = Field(None, pattern=r"^[0-9]{12}$")
    """IAM: AWS account of the workgroup, 12 digits; optional."""


class SecretLogin(AwsLogin):
    """User and password from AWS Secrets Manager, and the host and the database if they are not set."""

    method = "REDSHIFT_SECRET_ARN"
    checks = "REDSHIFT_SECRET_ARN, the content of that secret, and the AWS identity's privileges"
    # https://docs.aws.amazon.com/secretsmanager/latest/userguide/reference_iam-permissions.html
    secret_arn: str = Field(pattern=r"^arn:aws[a-z-]*:secretsmanager:[a-z0-9-]+:[0-9]{12}:secret:\S+$")
    """Secret with user and password: arn:aws:secretsmanager:REGION:ACCOUNT:secret:NAME."""


class UndecidedLogin(RedshiftSettings, extra="ignore"):
    """REDSHIFT_IAM is not valid or contradicts REDSHIFT_SECRET_ARN: always invalid."""

    method = "REDSHIFT_IAM"

    secret_arn: str | None = None

    @field_validator("secret_arn")
    @classmethod
    def _check_iam(cls, value: str | None, info: ValidationInfo) -> str | None:
        if info.data.get("iam"):
            raise combination_error("allowed is this or REDSHIFT_IAM=true, not both")
        return value


LOGINS = (PasswordLogin, IamClusterLogin, IamServerlessLogin, SecretLogin)


def _method(values: Mapping[str, str]) -> str:
    """Return the `method` of the login that the given variables select."""
    try:
        iam = TypeAdapter(bool).validate_python(values.get("iam", False))
    except ValueError:
        return UndecidedLogin.method
    if "secret_arn" in values:
        return UndecidedLogin.method if iam else SecretLogin.method
    if iam:
        return IamServerlessLogin.method if "workgroup" in values else IamClusterLogin.method
    return PasswordLogin.method


LOGIN: TypeAdapter[RedshiftSettings] = TypeAdapter(
    Annotated[  # type: ignore[arg-type]  # built from LOGINS
        Union[tuple(Annotated[login, Tag(login.method)] for login in (*LOGINS, UndecidedLogin))],  # noqa: UP007
        Discriminator(_method),
    ]
)
