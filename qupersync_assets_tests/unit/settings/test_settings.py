"""Settings: deinvalid, errors, secrets, and .env.example."""

from __future__ import annotations

import importlib.util
import io
import re
import sys
import traceback
from pathlib import Path
from secrets import token_hex

import pytest
from dotenv import dotenv_values

from qupersync_assets.core.redaction import redact
from qupersync_assets.settings import SettingsError, variables
from qupersync_assets.settings.alerts import parse_alert_urls
from qupersync_assets.settings.errors import is_secret
from qupersync_assets.settings.redshift_login import PasswordLogin
from qupersync_assets_tests.unit.conftest import REQUIRED, Load

ENV_EXAMPLE = Path(__file__).parents[3] / ".env.example"
SECRETS = ["REDSHIFT_PASSWORD", "POSTGRES_PASSWORD"]


@pytest.mark.parametrize(
    ("variable", "value", "allowed"),
    [
        ("SYNC_INTERVAL", "abc", "allowed is a whole number"),
        ("SYNC_INTERVAL", "300.5", "whole number"),
        ("SYNC_INTERVAL", "0", "or equal to 10"),
        ("SYNC_INTERVAL", "-5", "or equal to 10"),
        ("SYNC_INTERVAL", "9", "or equal to 10"),
        ("SYNC_INTERVAL", "99999999", f"or equal to {31 * 86400}"),
        ("SYNC_BATCH_SIZE", "0", "or equal to 1"),
        ("SYNC_BATCH_SIZE", "1000000", "or equal to 100000"),
        ("SYNC_TIMEZONE", "Mars/Olympus", "IANA time zone"),
        ("SYNC_TIMEZONE", "../etc/passwd", "IANA time zone"),
        ("SYNC_MISFIRE_GRACE", "0", "or equal to 1"),
        ("SYNC_MAX_SKIPPED_RATIO", "1.5", "or equal to 1"),
        ("SYNC_MAX_SKIPPED_RATIO", "nan", "or equal to"),
        ("SYNC_MAX_RETRIES", "-1", "or equal to 0"),
        ("SYNC_RETRY_DELAY", "inf", "or equal to 3600"),
        ("SYNC_AUTO_MIGRATE", "perhaps", "true or false"),
        ("SYNC_QUERY_TEXT", "hidden", "'full', 'redacted' or 'none'"),
        ("REDSHIFT_PORT", "70000", "or equal to 65535"),
        ("REDSHIFT_PORT", "0", "or equal to 1"),
        ("POSTGRES_PORT", "70000", "or equal to 65535"),
        ("POSTGRES_PORT", "0", "or equal to 1"),
        ("UI_PORT", "http", "whole number"),
        ("METRICS_PORT", "0", "or equal to 1"),
        ("ASSET_OWNER", "someone", "e-mail address"),
        ("ASSET_OWNER", "team:", "e-mail address"),
        ("CODE_URL", "github.com/acme", "Web address"),
        ("REDSHIFT_SSL", "perhaps", "true or false"),
        ("REDSHIFT_SSLMODE", "disable", "verify-full"),
        ("POSTGRES_SSLMODE", "on", "prefer"),
        ("POSTGRES_STATEMENT_TIMEOUT", "0", "or equal to 1"),
    ],
)
def test_an_invalid_value_is_reported_with_the_allowed_values(
    load: Load, variable: str, value: str, allowed: str
) -> None:
    with pytest.raises(SettingsError) as refusal:
        load(**{variable: value})
    lines = [line for line in str(refusal.value).splitlines() if variable in line]
    assert len(lines) == 1
    assert value in lines[0]
    assert allowed in lines[0].replace(value, "", 1)


SLACK = "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ"
MAIL = "://bot:opensesame99@mail.example.com?to=me@example.com,you@example.com"


@pytest.mark.parametrize(
    ("urls", "words"),
    [
        ("opensesame99", "entry 1 (unknown) is not a URL"),
        (f"{SLACK},hunter2://opensesame99", "entry 2 (hunter2) is not a URL"),
        (f"{SLACK}, opensesame99", "entry 2 (unknown) is not a URL"),
        (f"{SLACK}\nslack://opensesame99", "entry 2 (slack) is not a URL"),
        ("json://bot:opensesame99@host:port", "entry 1 (json) is not a URL"),
        ("slack://opensesame99 json://[", "entry 1 (slack) is not a URL that Apprise accepts; entry 2 (json)"),
        ("json://bot:opensesame99@host/?rto=never", "entry 1 (json) has a recipient or parameter"),
        (f"mailto{MAIL}", "entry 1 (mailto) would send its password without TLS; allowed is mailtos://"),
        (",", "has no URL"),
    ],
)
def test_alert_urls_that_are_not_allowed_are_named_and_not_shown(load: Load, urls: str, words: str) -> None:
    with pytest.raises(SettingsError) as refusal:
        load(ALERT_URLS=urls)
    (line,) = [line for line in str(refusal.value).splitlines() if line.startswith("  ALERT_URLS: ")]
    assert words in line
    assert not re.search("opensesame99|T1JJ3T3L2", "".join(traceback.format_exception(refusal.value)))


@pytest.mark.parametrize(
    ("urls", "schemas"),
    [
        (SLACK, ["slack"]),
        ("https://hooks.slack.com/services/T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ", ["https"]),
        (f"{SLACK},mailtos{MAIL},", ["slack", "mailtos"]),
        (
            " pagerduty://0123456789abcdef0123456789abcdef@u-aaa1111111111111111\n"
            "opsgenie://8b799edf-6f98-4d3a-9be7-2862fb4e5752 , "
            "workflows://prod-1.westeurope.logic.azure.com:443/a1b2c3/sig123abc",
            ["pagerduty", "opsgenie", "workflows"],
        ),
    ],
)
def test_alert_urls_are_separated_by_commas_and_white_space(load: Load, urls: str, schemas: list[str]) -> None:
    settings = load(ALERT_URLS=urls)
    entries = parse_alert_urls(settings.alert_urls)
    assert [entry.schema for entry in entries] == schemas
    assert not re.search("T1JJ3T3L2|opensesame99|0123456789", f"{settings!r} {entries!r} {entries}")


def test_alert_urls_need_the_extra(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "apprise", None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SettingsError, match=r"ALERT_URLS: .*pip install 'qupersync\[alerts\]'"):
        load(ALERT_URLS=SLACK)


def test_a_ui_url_with_a_password_is_not_allowed(load: Load) -> None:
    with pytest.raises(SettingsError, match=r"  UI_URL\b.*https://dagster.example.com"):
        load(UI_URL="https://me:pass@dagster")


def test_an_invalid_value_in_a_lower_case_variable_is_reported(load: Load) -> None:
    with pytest.raises(SettingsError, match=r"SYNC_INTERVAL.*abc"):
        load(sync_interval="abc")


@pytest.mark.parametrize("variable", REQUIRED)
@pytest.mark.parametrize("value", [None, ""])
def test_a_missing_variable_is_reported(load: Load, variable: str, value: str | None) -> None:
    with pytest.raises(SettingsError, match=f"{variable} is not set"):
        load(**{variable: value})


def test_all_invalid_settings_are_reported_together(load: Load) -> None:
    invalid = {"SYNC_INTERVAL": "abc", "REDSHIFT_PORT": "0", "SYNC_TIMEZONE": "x", "POSTGRES_HOST": None}
    with pytest.raises(SettingsError) as refusal:
        load(**invalid)
    assert sorted(invalid) == sorted(re.findall(r"^  ([A-Z_]+)", str(refusal.value), re.MULTILINE))


@pytest.mark.parametrize(
    ("field", "default"),
    [
        ("sync_interval", 300),
        ("sync_batch_size", 1000),
        ("sync_timezone", "US/Pacific"),
        ("sync_misfire_grace", 60),
        ("sync_auto_migrate", True),
        ("postgres_port", 5432),
        ("sync_query_text", "full"),
        ("cluster_name", "default"),
    ],
)
def test_defaults(load: Load, field: str, default: object) -> None:
    assert getattr(load(), field) == default


def test_defaults_of_redshift(load: Load) -> None:
    login = load().by_cluster()["default"]
    assert login == PasswordLogin(host="redshift.example", database="dev", user="reader")
    assert (login.port, login.ssl, login.sslmode, login.ssl_ca) == (5439, True, "verify-full", None)
    assert isinstance(login, PasswordLogin) and login.password is None


@pytest.mark.parametrize("interval", [10, 45, 420, 5400, 86400])
def test_each_interval_from_ten_seconds_is_accepted(load: Load, interval: int) -> None:
    assert load(SYNC_INTERVAL=str(interval)).sync_interval == interval


def test_an_empty_variable_counts_as_not_set(load: Load) -> None:
    assert load(SYNC_INTERVAL="", REDSHIFT_PASSWORD="", POSTGRES_SSLMODE="") == load()


@pytest.mark.parametrize("secret", SECRETS)
def test_secrets_are_not_shown(load: Load, secret: str) -> None:
    value = token_hex()
    settings = load(**{secret: value})
    for model in (settings, *settings.by_cluster().values()):
        assert value not in f"{model} {model!r} {model.model_dump()} {model.model_dump_json()}"
    with pytest.raises(SettingsError) as refusal:
        load(**{secret: value, "SYNC_INTERVAL": "abc", "REDSHIFT_HOST": None})
    assert value not in "".join(traceback.format_exception(refusal.value))


def test_settings_are_equal_after_export_to_the_environment(load: Load) -> None:
    settings = load(SYNC_INTERVAL="420", REDSHIFT_SSL="false", SYNC_RETRY_DELAY="0.5", POSTGRES_PASSWORD="p w'\"$")
    assert load(**settings.environment()) == settings


def test_env_example_lists_every_variable_once() -> None:
    named = re.findall(r"^#?([A-Z_]+)=", ENV_EXAMPLE.read_text("utf-8"), re.MULTILINE)
    assert sorted(named) == sorted(variables())


def test_env_example_sets_required_variables_and_passwords() -> None:
    # dagster.yaml reads the port too, and knows no default.
    assert set(dotenv_values(ENV_EXAMPLE)) == {*REQUIRED, *SECRETS, "POSTGRES_PORT"}


def test_env_example_loads_and_shows_the_defaults(load: Load) -> None:
    as_it_is = load(**dotenv_values(ENV_EXAMPLE))
    text = re.sub(r"^#(?=[A-Z_]+=)", "", ENV_EXAMPLE.read_text("utf-8"), flags=re.MULTILINE)
    assert load(**dotenv_values(stream=io.StringIO(text))) == as_it_is
    assert as_it_is.environment() == {**load().environment(), **dotenv_values(ENV_EXAMPLE)}


OF_LIBRARIES = {"PGPASSWORD", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"}
SECRET_URLS = {"CELERY_BACKEND_URL", "CELERY_BROKER_URL"}


@pytest.mark.parametrize(
    "name", sorted(OF_LIBRARIES | {name for name, field in variables().items() if is_secret(field)})
)
def test_every_secret_is_redacted(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    before, after = ("redis://user:", "@host:6379/0") if name in SECRET_URLS else ("", "")
    monkeypatch.setenv(name, f"{before}hunter-{name}{after}")
    assert redact(f"with {before}hunter-{name}{after}.") == f"with {before}***{after}."


def test_the_secrets_of_settings_are_complete() -> None:
    assert {name for name, field in variables().items() if is_secret(field)} == {
        *(*SECRETS, *SECRET_URLS, "ALERT_URLS"),
        *(f"REDSHIFT_{name}" for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "SESSION_TOKEN")),
    }
