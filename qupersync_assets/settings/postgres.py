"""The settings of PostgreSQL: one description of a connection, for the target and for the storage of Dagster."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, Field, SecretStr, StringConstraints, ValidationError, ValidationInfo
from pydantic_settings import BaseSettings, SettingsConfigDict

from qupersync_assets.core.environment import read_secrets
from qupersync_assets.settings.errors import SettingsError, combination_error, explain, secret_lines
from qupersync_assets.settings.redshift_login import Port, Seconds, check_pem

Name = Annotated[str, StringConstraints(min_length=1, strip_whitespace=True)]
_VERIFIED = ("require", "verify-ca", "verify-full")


def split_hosts(text: str) -> list[tuple[str, int | None]]:
    """Return each host of a list, and its port if it has one; a ValueError for anything else, such as a URL."""
    return [_split_host(host.strip()) for host in text.split(",")]


def _split_host(host: str) -> tuple[str, int | None]:
    if host.startswith(("/", "@")):
        return host, None  # the folder of a socket, or an abstract one
    name, separator, port = host, "", ""
    if found := re.fullmatch(r"\[([^]]*)\](?:(:)(\d*))?", host):
        name, separator, port = found[1], found[2] or "", found[3] or ""
    elif host.count(":") == 1:
        name, separator, port = host.partition(":")
    if ":" in name:
        ipaddress.IPv6Address(name)
    valid_port = not separator or (port.isdecimal() and 0 < int(port) < 65536)
    if not valid_port or not re.fullmatch(r"[^\s/@?#\[\]]+", name):
        raise ValueError(host)
    return name, int(port) if port else None


def _check_hosts(text: str) -> str:
    try:
        split_hosts(text)
    except ValueError:
        # The value is not shown: a URL may contain a password.
        problem = "allowed are a host, host:port, [IPv6]:port, the folder of a socket, or several with commas"
        raise combination_error(f"{problem}; a database belongs in POSTGRES_DATABASE") from None
    return text.strip()


def _check_ca(path: Path, info: ValidationInfo) -> Path:
    if info.data.get("postgres_sslmode") not in (None, *_VERIFIED):
        raise combination_error("allowed only with POSTGRES_SSLMODE=require, verify-ca or verify-full")
    return check_pem(path)


class PostgresSettings(BaseModel, use_attribute_docstrings=True):
    """How to connect to PostgreSQL."""

    postgres_host: Annotated[str, Field(min_length=1), AfterValidator(_check_hosts)] = Field(examples=["localhost"])
    """Host of the target PostgreSQL, or several as a,b:5433: the one that accepts writes is used."""
    postgres_port: Port = Field(
        5432, description="Port of the hosts that POSTGRES_HOST names without one.", examples=["5432"]
    )
    postgres_database: Name = Field(description="Database in which the schema quper is created.", examples=["quper"])
    postgres_user: Name = Field(description="User to connect as.", examples=["qupersync"])
    postgres_password: SecretStr | None = Field(None, examples=["change-me"])
    """Password of that user. A secret."""
    postgres_sslmode: Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"] | None = None
    """sslmode of libpq; default: verify-full with POSTGRES_SSL_CA, prefer if it is on this machine, else require."""
    postgres_ssl_ca: Annotated[Path, AfterValidator(_check_ca)] | None = None
    """PEM file of the CA that signed the server's certificate."""
    postgres_connect_timeout: Seconds = Field(10, description="Seconds to wait for a connection.")
    postgres_statement_timeout: Seconds = Field(120, description="Seconds that one statement may take.")

    @property
    def postgres_endpoint(self) -> str:
        """Hosts and ports, for messages."""
        pairs = [(host, port or self.postgres_port) for host, port in split_hosts(self.postgres_host)]
        return ",".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in pairs)

    @property
    def tls(self) -> str:
        """The sslmode of libpq."""
        if self.postgres_sslmode or self.postgres_ssl_ca:
            return self.postgres_sslmode or "verify-full"
        return "prefer" if all(_is_local(host) for host, _ in split_hosts(self.postgres_host)) else "require"

    def libpq(self) -> dict[str, Any]:
        """Return the parameters of a connection: https://www.postgresql.org/docs/current/libpq-connect.html."""
        hosts = split_hosts(self.postgres_host)
        parameters = {
            "host": ",".join(host for host, _ in hosts),
            "port": ",".join(str(port or self.postgres_port) for _, port in hosts),
            "dbname": self.postgres_database,
            "user": self.postgres_user,
            "password": self.postgres_password.get_secret_value() if self.postgres_password else None,
            "sslmode": self.tls,
            "sslrootcert": str(self.postgres_ssl_ca) if self.postgres_ssl_ca else None,
            "target_session_attrs": "read-write" if len(hosts) > 1 else None,
            "connect_timeout": self.postgres_connect_timeout,
            # Notice within two minutes that the server disappeared; the default of the operating system is hours.
            "keepalives_idle": 60,
            "keepalives_interval": 10,
            "keepalives_count": 3,
            "tcp_user_timeout": 90_000,
        }
        return {name: value for name, value in parameters.items() if value is not None}


def _is_local(host: str) -> bool:
    if host.startswith(("/", "@")) or host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class StorageSettings(BaseSettings, PostgresSettings):
    """The connection of Dagster's storage: POSTGRES_*, of which a URL may state some otherwise."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_ignore_empty=True, hide_input_in_errors=True)

    @classmethod
    def load(cls, **given: Any) -> StorageSettings:
        """Load them from the environment, except those that are given; SettingsError names all problems."""
        lines = [line for line in secret_lines(read_secrets()) if "POSTGRES_" in line]
        if lines:
            raise SettingsError(lines)
        try:
            return cls(**given)
        except ValidationError as error:
            problems = [(str(problem["loc"][0]), problem) for problem in error.errors()]
            lines = [explain(problem, name.upper(), cls.model_fields[name]) for name, problem in problems]
            raise SettingsError(lines) from None
