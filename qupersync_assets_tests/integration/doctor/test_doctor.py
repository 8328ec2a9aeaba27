"""`qupersync doctor` reports exactly the problem there is, with a remedy that fixes it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from qupersync_assets.cli import app
from qupersync_assets.postgres.resource import PostgresResource
from qupersync_assets.sandbox import Sandbox
from qupersync_assets.sandbox.gateway.relay import Gateway
from qupersync_assets_tests.support.integration import Query, Sync

Doctor = Callable[[], dict[str, Any]]


@pytest.fixture
def doctor(environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Doctor:
    """Runs `qupersync doctor --json` in an empty folder; the exit code agrees with its answer."""
    monkeypatch.chdir(tmp_path)

    def run() -> dict[str, Any]:
        done = CliRunner().invoke(app, ["doctor", "--json"])
        report: dict[str, Any] = json.loads(done.stdout)
        assert done.exit_code == (0 if report["ok"] else 1)
        assert not any(environment[f"{side}_PASSWORD"] in done.output for side in ("REDSHIFT", "POSTGRES"))
        return report

    return run


def problems(report: dict[str, Any]) -> dict[str, str]:
    """The remedies, by side and subject."""
    return {f"{f['side']} {f['what']}": f["remedy"] for f in report["findings"] if not f["ok"]}


def found(report: dict[str, Any], what: str, side: str = "redshift") -> str:
    (detail,) = [f["detail"] for f in report["findings"] if (f["side"], f["what"]) == (side, what)]
    return str(detail)


def test_doctor_finds_no_problem(bare: PostgresResource, doctor: Doctor, sync: Sync) -> None:
    first = doctor()
    assert first["ok"] and problems(first) == {}
    assert "first run creates it" in found(first, "schema quper", "postgres")
    assert sync("node_details").success
    after = doctor()
    assert after["ok"] and found(after, "schema quper", "postgres") == "usable"
    assert found(after, "job vacuum_history_sync") == "from stl_vacuum, sys_vacuum_history"
    assert found(after, "view stl_vacuum") == "readable, all rows"
    assert found(after, "kind").startswith("provisioned")
    assert found(after, "version") == "1.0.117891"


LOGINS = [
    ({"REDSHIFT_PASSWORD": "wrong"}, "redshift login", "REDSHIFT_PASSWORD"),
    ({"REDSHIFT_PORT": "1"}, "redshift login", "REDSHIFT_PORT"),
    ({"REDSHIFT_HOST": "no-such-host.invalid"}, "redshift login", "REDSHIFT_HOST"),
    ({"REDSHIFT_DATABASE": "nowhere"}, "redshift login", "REDSHIFT_DATABASE"),
    ({"REDSHIFT_SSL": "true"}, "redshift login", "REDSHIFT_SSL"),
    ({"POSTGRES_PASSWORD": "wrong"}, "postgres login", "POSTGRES_PASSWORD"),
    ({"POSTGRES_PORT": "1"}, "postgres login", "POSTGRES_PORT"),
    ({"POSTGRES_DATABASE": "nowhere"}, "postgres login", "POSTGRES_DATABASE"),
    ({"POSTGRES_USER": ""}, "settings variables", "POSTGRES_USER is not set"),
    ({"SYNC_INTERVAL": "soon"}, "settings variables", "SYNC_INTERVAL='soon'"),
]


@pytest.mark.parametrize(("variables", "what", "words"), LOGINS, ids=lambda value: str(value)[:40])
def test_failed_login_is_a_problem(
    doctor: Doctor, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], what: str, words: str
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    remedies = problems(doctor())
    assert list(remedies) == [what] and words in remedies[what]


# SQL that breaks the source, SQL that fixes it (None: the remedy of the doctor), and words of the remedies by subject.
SOURCES = [
    (
        "REVOKE SELECT ON svv_table_info FROM qupersync_reader",
        None,
        {"view svv_table_info": "GRANT SELECT", "job table_stats_sync": "svv_table_info"},
    ),
    (
        "REVOKE SELECT ON stl_vacuum FROM qupersync_reader",
        None,
        {"view stl_vacuum": 'GRANT SELECT ON stl_vacuum TO "qupersync_reader";'},
    ),
    (
        "ALTER TABLE sys_query_history RENAME TO renamed",
        "ALTER TABLE renamed RENAME TO sys_query_history",
        {
            "view sys_query_history": "next patch",
            "job query_history_sync": "sys_query_history",
            "job query_metrics_sync": "sys_query_history",
        },
    ),
    (
        "ALTER TABLE sys_query_history RENAME username TO renamed",
        "ALTER TABLE sys_query_history RENAME renamed TO username",
        {"job query_history_sync": "next patch of the cluster (see its maintenance track and window): it lacks "
         "sys_query_history.username"},
    ),
    (
        "ALTER TABLE sys_query_history RENAME query_id TO renamed",
        "ALTER TABLE sys_query_history RENAME renamed TO query_id",
        {
            "job query_history_sync": "sys_query_history.query_id, without which quper.query_history",
            "job query_metrics_sync": "sys_query_history.query_id, without which quper.query_metrics",
            "job alert_events_sync": "it lacks sys_query_history.query_id",
        },
    ),
    (
        "CREATE OR REPLACE FUNCTION redshift.getdate() RETURNS timestamp LANGUAGE sql STABLE "
        "AS $$ SELECT statement_timestamp() AT TIME ZONE 'UTC' - interval '1 hour' $$",
        "CREATE OR REPLACE FUNCTION redshift.getdate() RETURNS timestamp LANGUAGE sql STABLE "
        "AS $$ SELECT statement_timestamp() AT TIME ZONE 'UTC' $$",
        {"time": "NTP"},
    ),
]  # fmt: skip


@pytest.mark.parametrize(("breaking", "fix", "expected"), SOURCES, ids=lambda value: str(value)[:50])
def test_problem_of_the_source_has_a_remedy(
    doctor: Doctor, source: Query, breaking: str, fix: str | None, expected: dict[str, str]
) -> None:
    source(breaking)
    try:
        remedies = problems(doctor())
        assert remedies.keys() == {f"redshift {what}" for what in expected}
        for what, words in expected.items():
            assert words in remedies[f"redshift {what}"]
        fix = fix or grant_in(remedies)
    finally:
        source(fix or "SELECT 1")
    assert doctor()["ok"]


def grant_in(remedies: dict[str, str]) -> str:
    """The statement in the remedies."""
    (statement,) = re.findall(r"GRANT .*?;", " ".join(remedies.values()))
    return str(statement)


def test_user_that_sees_only_its_own_rows_is_a_problem(doctor: Doctor, sandbox: Sandbox) -> None:
    sandbox.set_access("qupersync_reader", roles=[])
    try:
        report = doctor()
        remedies = problems(report)
        assert list(remedies) == ["redshift rows"]
        assert 'GRANT ROLE sys:monitor TO "qupersync_reader";' in remedies["redshift rows"]
        assert found(report, "view sys_query_history") == "readable, own rows only"
        for access in ({"syslog": "UNRESTRICTED"}, {"superuser": True}):
            sandbox.set_access("qupersync_reader", **access)
            assert doctor()["ok"]
            sandbox.set_access("qupersync_reader", superuser=False, syslog="RESTRICTED")
    finally:
        sandbox.set_access("qupersync_reader", superuser=False, syslog="RESTRICTED", roles=["sys:monitor"])
    assert doctor()["ok"]


TAKE_OVER = "ALTER DATABASE quper OWNER TO CURRENT_USER; GRANT CONNECT, TEMPORARY ON DATABASE quper TO qupersync; "
TARGETS = [
    (TAKE_OVER + "DROP SCHEMA quper CASCADE", "schema quper"),
    (TAKE_OVER + "REVOKE TEMPORARY ON DATABASE quper FROM qupersync, PUBLIC", "temporary tables"),
    ("ALTER SCHEMA quper OWNER TO CURRENT_USER", "schema quper"),
    (
        "ALTER TABLE quper.node_details OWNER TO CURRENT_USER; GRANT SELECT, INSERT ON quper.node_details TO qupersync",
        "table node_details",
    ),
]


@pytest.mark.parametrize(("breaking", "what"), TARGETS, ids=lambda value: str(value)[-40:])
def test_missing_privilege_in_the_target_has_a_remedy(
    doctor: Doctor, sync: Sync, target: Query, breaking: str, what: str
) -> None:
    assert sync("node_details").success
    target(breaking)
    try:
        remedies = problems(doctor())
        assert list(remedies) == [f"postgres {what}"]
        target(grant_in(remedies))
        assert doctor()["ok"]
    finally:
        target("ALTER DATABASE quper OWNER TO qupersync; GRANT ALL ON DATABASE quper TO qupersync")


def test_schema_version_is_checked_and_migrated(
    doctor: Doctor, sync: Sync, target: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert sync("node_details").success
    target("UPDATE quper.schema_version SET version_num = '9999'")
    remedies = problems(doctor())
    assert list(remedies) == ["postgres schema version"] and "Upgrade QuperSync" in remedies["postgres schema version"]
    target("UPDATE quper.schema_version SET version_num = '0003'")
    assert "DROP SCHEMA quper" in problems(doctor())["postgres schema version"]
    target("UPDATE quper.schema_version SET version_num = '0004'")
    assert doctor()["ok"]  # the next run upgrades it
    monkeypatch.setenv("SYNC_AUTO_MIGRATE", "false")
    assert "qupersync migrate" in problems(doctor())["postgres schema version"]
    target("DROP SCHEMA quper CASCADE")
    done = CliRunner().invoke(app, ["migrate"])
    assert done.exit_code == 0 and "from version none to" in done.stdout
    again = json.loads(CliRunner().invoke(app, ["migrate", "--json"]).stdout)
    assert again["before"] == again["after"]
    assert doctor()["ok"]
    monkeypatch.setenv("POSTGRES_PASSWORD", "wrong")
    refused = CliRunner().invoke(app, ["migrate"])
    assert refused.exit_code == 1 and "Check POSTGRES_USER and POSTGRES_PASSWORD" in refused.output


def test_pinned_settings_and_the_path_are_shown(doctor: Doctor, target: Query) -> None:
    plain, path = doctor(), 'search_path pg_catalog, pg_temp, "public"'
    assert found(plain, "session", "postgres") == f"pinned: {path}; the server sets the same"
    assert found(plain, "path", "postgres") == "no pooler"
    assert found(plain, "login", "postgres").endswith("database quper, no TLS (sslmode prefer)")
    target("ALTER ROLE qupersync SET TimeZone = 'Asia/Tokyo'; ALTER DATABASE quper SET client_encoding = LATIN1")
    try:
        report = doctor()
        shown = f"pinned: {path}; TimeZone UTC instead of Asia/Tokyo, client_encoding UTF8 instead of LATIN1"
        assert report["ok"] and found(report, "session", "postgres") == shown
    finally:
        target("ALTER ROLE qupersync RESET ALL; ALTER DATABASE quper RESET ALL")


def test_read_only_target_is_a_problem(doctor: Doctor, target: Query) -> None:
    target("ALTER ROLE qupersync IN DATABASE quper SET default_transaction_read_only = on")
    try:
        remedies = problems(doctor())
        assert list(remedies) == ["postgres writing"] and "POSTGRES_HOST" in remedies["postgres writing"]
    finally:
        target("ALTER ROLE qupersync IN DATABASE quper RESET default_transaction_read_only")


@pytest.mark.parametrize(("mode", "kind"), [("serverless", "Serverless"), ("multi-az", "Multi-AZ")])
def test_view_that_a_kind_of_cluster_lacks_is_not_a_problem(
    doctor: Doctor, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, mode: Any, kind: str
) -> None:
    with Gateway((sandbox.server.host, sandbox.server.port), mode=mode) as gateway:
        monkeypatch.setenv("REDSHIFT_PORT", str(gateway.port))
        report = doctor()
    assert report["ok"] and found(report, "kind").startswith(f"{kind}:")
    assert found(report, "view stl_vacuum") == f"not on {kind}"
    assert found(report, "job vacuum_history_sync") == "from sys_vacuum_history"
    assert found(report, "job node_details_sync") == f"unavailable on {kind}"
    # A sync every 300 s keeps a workgroup active for a minute each.
    hours = [finding["detail"] for finding in report["findings"] if finding["what"] == "active hours"]
    assert len(hours) == (kind == "Serverless")
    assert all("4.8 a day" in text and "REDSHIFT_SYNC_INTERVAL=3600 lowers it to 0.4" in text for text in hours)


def test_a_cluster_that_no_setting_names_is_reported(doctor: Doctor, sync: Sync, target: Query) -> None:
    assert sync("node_details").success
    target("INSERT INTO quper.query_history (cluster, query_id) VALUES ('old', 1)")
    report = doctor()
    assert report["ok"]  # it may be kept
    assert "qupersync clusters forget old" in found(report, "cluster old", "postgres")
    assert "cluster sandbox" not in {finding["what"] for finding in report["findings"]}


def test_table_has_the_findings_of_the_json(
    doctor: Doctor, source: Query, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POSTGRES_PASSWORD", "wrong")
    expected = doctor()
    printed = CliRunner().invoke(app, ["doctor"])
    assert printed.exit_code == 1
    for finding in expected["findings"]:
        assert finding["what"] in printed.stdout
    assert problems(expected)["postgres login"] in printed.stdout
    assert "No problems found" not in printed.stdout
