"""`qupersync status`, `history` and `purge`: results, and errors for wrong arguments."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from qupersync_assets.postgres.resource import PostgresResource
from qupersync_assets.sync_jobs import default_specs
from qupersync_assets_tests.support.dagster_state import beat, switch_off
from qupersync_assets_tests.support.integration import Command, Query

JOBS = [spec.sync_job_id for spec in default_specs()]


@pytest.fixture
def log(postgres: PostgresResource, target: Query) -> Callable[..., None]:
    """Adds a row to quper.sync_logs that ended a number of hours ago."""

    def add(job: str, status: str, hours: float, cluster: str = "sandbox", **columns: Any) -> None:
        columns |= {"error": f"why {status}"} if status == "failed" else {}
        names = "".join(f", {name}" for name in columns)
        target(
            f"INSERT INTO quper.sync_logs (cluster, sync_job_id, run_id, status, started_at, completed_at{names}) "
            "SELECT %s, %s, md5(random()::text), %s, t - interval '2 s', t" + ", %s" * len(columns) +
            " FROM (SELECT now() - make_interval(secs => %s)) AS u (t)",
            [cluster, job, status, *columns.values(), hours * 3600],
        )  # fmt: skip

    return add


def jobs_of(document: Any) -> dict[str, Any]:
    return {job["sync_job_id"]: job for job in document["jobs"]}


def test_status_before_the_first_run(qupersync: Command) -> None:
    done = qupersync("status", "--json")
    assert done.code == 0 and list(jobs_of(done.json)) == JOBS
    for job in done.json["jobs"]:
        assert job["last_run"] is job["lag_seconds"] is job["seconds_since_success"] is None
        assert {check["status"] for check in job["checks"].values()} == {"unknown"}
        assert job["next_run"] == done.json["schedule"]["next_run"]
    table = qupersync("status").out
    assert table.count("never") == len(JOBS)


def test_status_of_last_run_lag_and_success(qupersync: Command, log: Callable[..., None], target: Query) -> None:
    log("query_history_sync", "success", 5, rows_extracted=1234)
    log("query_history_sync", "failed", 2)
    log("query_history_sync", "failed", 1)
    log("query_history_sync", "success", 0, cluster="other")
    log("node_details_sync", "success", 3)
    target(
        "INSERT INTO quper.query_history (cluster, query_id, start_time) SELECT 'sandbox', h, now() - make_interval(hours => h) "
        "FROM unnest(ARRAY[4, 9, -1]) h"  # one in the future
    )
    done = qupersync("status", "--json")
    assert done.code == 1 and not done.json["ok"]
    jobs = jobs_of(done.json)
    queries, nodes = jobs["query_history_sync"], jobs["node_details_sync"]
    assert queries["last_run"]["status"] == "failed" and queries["failures_since_success"] == 2
    assert queries["lag_seconds"] == pytest.approx(4 * 3600, abs=30)
    assert queries["seconds_since_success"] == pytest.approx(5 * 3600, abs=30)
    assert nodes["lag_seconds"] == pytest.approx(3 * 3600, abs=30) and nodes["failures_since_success"] == 0
    assert queries["needs_attention"] and not nodes["needs_attention"]
    table = qupersync("status").out
    assert "query_history_sync: why failed" in table and " 1h " in table and " 4h " in table


def test_status_begins_with_what_needs_attention(qupersync: Command, log: Callable[..., None]) -> None:
    log("node_details_sync", "success", 1)
    assert qupersync("status").out.startswith("No job needs attention.\n")
    for job in JOBS[:5]:
        log(job, "failed", 0)
    log(JOBS[5], "canceled", 0)
    log(JOBS[6], "partial", 0)
    done = qupersync("status")
    names = f"{', '.join(JOBS[:3])} and 2 more (failed), {JOBS[6]} (partial)"
    assert done.code == 1 and done.out.startswith(f"6 of {len(JOBS)} jobs need attention: {names}\n")
    # One line for the error that all have.
    assert f"{', '.join(JOBS[:3])} and 2 more: why failed" in done.out and done.out.count("why failed") == 1


@pytest.mark.parametrize(
    ("variables", "zone", "seconds"),
    [({"SYNC_INTERVAL": "300"}, "UTC", 300), ({"SYNC_INTERVAL": "420"}, "UTC", 420), ({"SYNC_INTERVAL": "86400"}, "Asia/Kolkata", 86400)],
    ids=str,
)  # fmt: skip
def test_status_shows_when_the_next_run_is_due(
    qupersync: Command, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], zone: str, seconds: int
) -> None:
    for name, value in {**variables, "SYNC_TIMEZONE": zone}.items():
        monkeypatch.setenv(name, value)
    due = datetime.fromisoformat(qupersync("status", "--json").json["schedule"]["next_run"])
    assert timedelta() <= due - datetime.now(UTC) + timedelta(seconds=30) <= timedelta(seconds=seconds + 30)
    midnight = timedelta(hours=18.5).total_seconds() if zone == "Asia/Kolkata" else 0
    assert due.timestamp() % seconds == midnight


def test_status_of_checks_schedule_and_daemon(
    qupersync: Command, dagster_home: Path, source: Query, postgres: PostgresResource, monkeypatch: pytest.MonkeyPatch
) -> None:
    source("INSERT INTO stv_node_storage_capacity VALUES (NULL, 1, 2)")
    assert qupersync("sync", "node_details").code == 1
    with dg.DagsterInstance.from_config(str(dagster_home)) as instance:
        first = qupersync("status", "--json").json
        beat(instance)
        second = qupersync("status").out
        switch_off(instance, first["schedule"]["name"])
        third = qupersync("status")
    with monkeypatch.context() as outage:  # this run ends before the checks
        outage.setenv("REDSHIFT_PORT", "1")
        assert qupersync("sync", "node_details").code == 1
    fourth = qupersync("status", "--json").json
    of_failed = jobs_of(fourth)["node_details_sync"]["checks"]
    assert {check["status"] for check in of_failed.values()} == {"unknown"}
    assert "rows skipped" not in qupersync("status").out
    checks = jobs_of(first)["node_details_sync"]["checks"]
    assert checks["no_skipped_rows"]["status"] == "error" and "1 of 1" in checks["no_skipped_rows"]["text"]
    assert checks["source_schema"]["status"] == "passed"
    assert jobs_of(first)["table_stats_sync"]["checks"]["source_schema"]["status"] == "unknown"
    assert first["schedule"]["on"] and not first["schedule"]["daemon"]["fresh"]
    assert "no daemon" not in second and "node_details_sync, no_skipped_rows: 1 of 1 rows" in second
    assert "switched off" in third.out
    assert qupersync("status", "--json").json["schedule"]["next_run"] is None


def test_a_missing_success_needs_attention(
    qupersync: Command, dagster_home: Path, log: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SYNC_INTERVAL", "300")
    log("node_details_sync", "success", 1)
    done = qupersync("status")
    assert done.code == 1
    assert done.out.startswith(
        f"1 of {len(JOBS)} jobs needs attention: node_details_sync (no success for 3 intervals)\n"
    )
    document = qupersync("status", "--json").json
    assert not document["ok"] and not document["problems"]
    assert jobs_of(document)["node_details_sync"]["needs_attention"] == "no success for 3 intervals"
    assert jobs_of(document)["table_stats_sync"]["needs_attention"] is None  # it never ran
    monkeypatch.setenv("SYNC_INTERVAL", "3600")
    assert qupersync("status").code == 0


def test_history_is_filtered(qupersync: Command, log: Callable[..., None]) -> None:
    log("node_details_sync", "success", 1)
    log("node_details_sync", "failed", 30)
    log("table_stats_sync", "success", 3)
    log("query_history_sync", "success", 2, cluster="other")

    def found(*options: str) -> list[tuple[str, str]]:
        done = qupersync("history", "--json", *options)
        assert done.code == 0
        return [(row["sync_job_id"], row["status"]) for row in done.json]

    nodes, tables = ("node_details_sync", "success"), ("table_stats_sync", "success")
    failed = ("node_details_sync", "failed")
    assert found() == [nodes, tables, failed]
    assert found("--job", "node_details") == [nodes, failed]
    assert found("--job", "quper.table_stats", "--job", "node_details_sync", "--limit", "2") == [nodes, tables]
    assert found("--status", "failed") == [failed]
    assert found("--since", "2h") == [nodes]
    assert found("--since", "1d12h", "--status", "failed") == [failed]
    ago = datetime.now(UTC) - timedelta(hours=4)
    assert found("--since", ago.isoformat()) == [nodes, tables] == found("--since", f"{ago:%Y-%m-%d %H:%M}")
    printed = qupersync("history").out
    assert "why failed" in printed and max(map(len, printed.splitlines())) <= 80
    assert "No such runs" in qupersync("history", "--since", "1s").out
    assert qupersync("history", "--since", "1s", "--json").json == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["history", "--since", "yesterday"], "ISO 8601"),
        (["history", "--since", "99999999999999w"], "too long"),
        (["history", "--since", "999999w"], "too long ago"),
        (["history", "--status", "lost"], "canceled"),
        (["history", "--limit", "0"], "or equal to 1"),
        (["history", "--job", "nodes"], "There is no job nodes"),
        (["purge"], "--yes"),
        (["purge", "--yes", "--dry-run"], "cannot be used together"),
        (["purge", "--yes", "--older-than", "2 weeks"], "4w"),
        (["purge", "--yes", "--older-than", "23h"], "1d or more"),
        (["purge", "--yes", "--older-than", "7d", "--with-history"], "8d or more"),
        (["purge", "--yes", "--with-history"], "needs --older-than"),
        (["metrics", "--port", "70000"], "65535"),
        (["--env-file", "no-such-file", "status"], "no-such-file"),
        (["snyc"], "No such command"),
    ],
    ids=" ".join,
)
def test_wrong_command_line_is_explained(qupersync: Command, arguments: list[str], words: str) -> None:
    done = qupersync(*arguments)
    assert done.code == 2 and not done.out
    assert words in " ".join(done.err.replace("│", " ").split())


def test_purge_counts_asks_and_deletes(
    qupersync: Command, log: Callable[..., None], target: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    for days in (1, 50, 100):
        log("a", "failed", 24 * days)
    for days in (1, 50):
        target(
            "INSERT INTO quper.query_history (cluster, query_id, start_time) VALUES ('sandbox', %s, now() - make_interval(days => %s))",
            [days, days],
        )

    def remaining() -> list[tuple[int]]:
        return target("SELECT count(*) FROM quper.sync_logs UNION ALL SELECT count(*) FROM quper.query_history")

    counted = qupersync("purge", "--dry-run", "--json")
    assert counted.code == 0 and not counted.json["deleted"]
    assert {old["what"]: old["rows"] for old in counted.json["old"]}["quper.sync_logs"] == 1
    assert remaining() == [(3,), (2,)]

    monkeypatch.setattr("qupersync_assets.cli.commands.purge._is_terminal", lambda: True)
    declined = qupersync("purge", "--older-than", "30d", answer="n\n")
    assert declined.code == 1 and "Nothing was deleted" in declined.err and remaining() == [(3,), (2,)]
    agreed = qupersync("purge", "--older-than", "30d", answer="y\n")
    assert agreed.code == 0 and remaining() == [(1,), (2,)]
    done = qupersync("purge", "--older-than", "30d", "--with-history", "--yes", "--json")
    assert done.code == 0 and {old["what"]: old["rows"] for old in done.json["old"]}["quper.query_history"] == 1
    assert remaining() == [(1,), (1,)]


def test_purge_deletes_runs_of_the_instance(
    qupersync: Command, dagster_home: Path, postgres: PostgresResource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qupersync_assets.defs.retention_job.KEPT_RUNS", 1)
    assert [qupersync("sync", "node_details").code for _ in range(2)] == [0, 0]
    with dg.DagsterInstance.from_config(str(dagster_home)) as instance:
        storage = instance.run_storage
        with storage.connect() as connection:  # type: ignore[attr-defined]
            connection.exec_driver_sql("UPDATE runs SET create_timestamp = create_timestamp - interval '20 days'")
        for flags, rows in ((["--dry-run"], 1), (["--yes"], 1)):
            old = {o["what"]: o["rows"] for o in qupersync("purge", "--json", *flags).json["old"]}
            assert old["runs"] == rows
            assert instance.get_runs_count() == (2 if flags == ["--dry-run"] else 1)


@pytest.mark.parametrize("version", ["9999", "0004"])
def test_schema_of_another_version_is_an_error(
    qupersync: Command, postgres: PostgresResource, target: Query, version: str
) -> None:
    target("UPDATE quper.schema_version SET version_num = %s", [version])
    remedy = "qupersync migrate" if version == "0004" else "Upgrade QuperSync"
    for verb in ("status", "history"):
        done = qupersync(verb, "--json")
        assert done.code == 1 and remedy in done.json["error"]


def test_env_file_sets_the_settings(
    qupersync: Command, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("my.env").write_text(f"POSTGRES_PORT={environment['POSTGRES_PORT']}\n")
    monkeypatch.setenv("POSTGRES_PORT", "")
    monkeypatch.delenv("POSTGRES_PORT")
    assert qupersync("status").code == 1
    assert qupersync("--env-file", "my.env", "status").code == 0


def test_instance_of_make_up_is_found_in_its_folder(
    qupersync: Command, dagster_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DAGSTER_HOME")
    home = Path(".qupersync/dagster")
    home.mkdir(parents=True)
    shutil.copy(dagster_home / "dagster.yaml", home)
    assert qupersync("status", "--json").json["schedule"]["on"] is True
