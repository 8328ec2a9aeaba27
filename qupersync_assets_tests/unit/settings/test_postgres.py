"""POSTGRES_*: hosts as people write them, TLS by default, and one description for the target and Dagster's storage."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import sqlalchemy as sa

from qupersync_assets.postgres.connection import Dialect
from qupersync_assets.sandbox.gateway.tls import Authority
from qupersync_assets.settings import SettingsError
from qupersync_assets_tests.unit.conftest import Load

HOSTS = {
    "db.example": ("db.example", "5432"),
    " db.example \n": ("db.example", "5432"),
    "db.example:6432": ("db.example", "6432"),
    "10.0.0.1": ("10.0.0.1", "5432"),
    "::1": ("::1", "5432"),
    "[::1]": ("::1", "5432"),
    "[2001:db8::5]:6432": ("2001:db8::5", "6432"),
    "a.example,b.example": ("a.example,b.example", "5432,5432"),
    "a.example:6432, [::1], ::1": ("a.example,::1,::1", "6432,5432,5432"),
    "/var/run/postgresql": ("/var/run/postgresql", "5432"),
    "a_b-c.internal": ("a_b-c.internal", "5432"),
}


@pytest.fixture(scope="session")
def ca_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Authority(tmp_path_factory.mktemp("ca")).ca


@pytest.mark.parametrize(("host", "expected"), HOSTS.items())
def test_hosts_are_accepted_for_both_connections(load: Load, host: str, expected: tuple[str, str]) -> None:
    settings = load(POSTGRES_HOST=host)
    storage = Dialect().create_connect_args(sa.make_url("postgresql+qupersync://"))[1]
    assert settings.libpq() == storage
    assert (storage["host"], storage["port"]) == expected
    assert storage.get("target_session_attrs") == ("read-write" if "," in host else None)


@pytest.mark.parametrize(
    "host",
    [
        "db.example:5432/quper",
        "postgresql://u:hunter2@db.example/quper",
        "jdbc:postgresql://db.example:5432/quper",
        "db.example:",
        "db.example:http",
        "db.example:70000",
        "a,,b",
        "::::",
        "two words",
        "[::1",
        " ",
    ],
)
def test_what_is_no_host_is_explained_and_not_shown(load: Load, host: str) -> None:
    with pytest.raises(SettingsError, match=r"POSTGRES_HOST: allowed are .*host:port.* POSTGRES_DATABASE") as refusal:
        load(POSTGRES_HOST=host)
    assert "hunter2" not in str(refusal.value)


@pytest.mark.parametrize(
    ("host", "ca", "expected"),
    [
        ("db.example", False, "require"),
        ("10.0.0.1", False, "require"),
        ("localhost,db.example", False, "require"),
        ("localhost", False, "prefer"),
        ("127.0.0.5", False, "prefer"),
        ("[::1]:5433", False, "prefer"),
        ("/var/run/postgresql", False, "prefer"),
        ("db.example", True, "verify-full"),
    ],
)
def test_tls_is_required_unless_the_host_is_local(
    load: Load, ca_file: Path, host: str, ca: bool, expected: str
) -> None:
    settings = load(POSTGRES_HOST=host, POSTGRES_SSL_CA=str(ca_file) if ca else None)
    assert settings.libpq()["sslmode"] == expected
    assert settings.libpq().get("sslrootcert") == (str(ca_file) if ca else None)
    assert load(POSTGRES_HOST=host, POSTGRES_SSLMODE="disable").libpq()["sslmode"] == "disable"


def test_a_ca_that_would_not_be_used_is_an_error(load: Load, ca_file: Path) -> None:
    with pytest.raises(SettingsError, match="POSTGRES_SSL_CA: allowed only with POSTGRES_SSLMODE=require"):
        load(POSTGRES_SSL_CA=str(ca_file), POSTGRES_SSLMODE="prefer")
    with pytest.raises(SettingsError, match=r"POSTGRES_SSL_CA=.*PEM"):
        load(POSTGRES_SSL_CA=__file__)


def test_line_ends_of_secret_files_are_removed(load: Load) -> None:
    settings = load(
        POSTGRES_PASSWORD="p w \r\n", POSTGRES_USER="owner \n", REDSHIFT_PASSWORD="x\n", REDSHIFT_PORT="1\n"
    )
    assert settings.libpq()["password"] == "p w " and settings.libpq()["user"] == "owner"
    assert settings.environment()["REDSHIFT_PASSWORD"] == "x" and settings.environment()["REDSHIFT_PORT"] == "1"


ODD = ["", " p ", "p@ss:w/rd", "%41", "a%", "$HOME ${x}", "'\"\\", "漢字", "#x", "[::1]", "?a=b&c", "+ +", "p\tq"]


@pytest.mark.parametrize("password", ODD)
def test_a_url_states_a_server_of_its_own(load: Load, password: str) -> None:
    load(POSTGRES_PASSWORD="hunter2", POSTGRES_SSLMODE="verify-full")
    url = sa.URL.create("postgresql+qupersync", "o w", password, "other", 1, "d b", query={"connect_timeout": "3"})
    arguments = Dialect().create_connect_args(sa.make_url(url.render_as_string(hide_password=False)))[1]
    shown = {name: arguments.get(name) for name in ("host", "port", "user", "dbname", "password", "sslmode")}
    assert shown == {
        **{"host": "other", "port": "1", "user": "o w", "dbname": "d b", "password": password or None},
        "sslmode": "verify-full",
    }
    assert arguments["connect_timeout"] == "3" and arguments["tcp_user_timeout"] == 90_000
    in_url = Dialect().create_connect_args(url.update_query_dict({"sslmode": "require"}))[1]
    assert in_url["sslmode"] == "require"
    assert not re.search("hunter2", str(arguments))
