"""A purge deletes the old rows of one cluster, and what is still needed stays."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa

from qupersync_assets.postgres import retention
from qupersync_assets.postgres.health_tables import HEALTH_FINDINGS
from qupersync_assets.postgres.query_sums import PATTERN_DAYS, QUERY_HOURS
from qupersync_assets.postgres.resource import PostgresResource
from qupersync_assets.postgres.skipped_rows import SKIPPED_ROWS
from qupersync_assets.postgres.sync_logs import SYNC_LOGS
from qupersync_assets_tests.support.integration import Query

CLUSTERS = ("one", "two")
DEFAULTS = {sa.Text: "''", sa.DateTime: "now()", sa.Date: "now()", sa.Boolean: "false", sa.JSON: "'{}'"}


def insert(target: Query, table: sa.Table, **values: Any) -> None:
    """Insert a row of each cluster; numbers are days ago for times. Other columns that need a value have one."""
    names, parts, parameters = ["cluster"], ["c"], []
    for column in table.c:
        if column.name in values:
            ago = isinstance(column.type, sa.DateTime | sa.Date)
            names.append(column.name)
            parts.append("now() - %s * interval '1 day'" if ago else "%s")
            parameters.append(values[column.name])
        elif column.name != "cluster" and not column.nullable and not (column.server_default or column.identity):
            names.append(column.name)
            parts.append(next((v for kind, v in DEFAULTS.items() if isinstance(column.type, kind)), "0"))
    target(
        f"INSERT INTO {table.fullname} ({', '.join(names)}) "
        f"SELECT {', '.join(parts)} FROM unnest(%s) WITH ORDINALITY AS u (c, n) ORDER BY n",
        [*parameters, list(CLUSTERS)],
    )


def left(target: Query, table: sa.Table, column: str) -> dict[str, list[Any]]:
    """Return the values of a column by cluster."""
    select = f"SELECT array_agg({column} ORDER BY {column}) FROM {table.fullname} WHERE cluster = %s"
    return {cluster: target(select, [cluster])[0][0] or [] for cluster in CLUSTERS}


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "BATCH_ROWS", 1)


def test_findings_that_were_resolved_long_ago_and_old_sums_are_deleted(
    postgres: PostgresResource, target: Query
) -> None:
    for name, resolved in (("resolved", 31), ("long resolved", 400), ("just resolved", 29), ("open", None)):
        insert(
            target, HEALTH_FINDINGS, object=name, opened_at=500, first_seen=500, changed_at=500, resolved_at=resolved
        )
    for name, ago in (("old", 31), ("older", 32), ("new", 29)):
        insert(target, QUERY_HOURS, user_name=name, hour=ago)
        insert(target, PATTERN_DAYS, pattern=name, day=ago)
    expected = {table.fullname: 2 for table in (HEALTH_FINDINGS, QUERY_HOURS, PATTERN_DAYS)}
    assert retention.purge_health(postgres, "one", None) == {}
    assert retention.purge_health(postgres, "one", 30, dry_run=True) == expected
    assert retention.purge_health(postgres, "one", 30) == expected
    every = ["just resolved", "long resolved", "open", "resolved"]
    assert left(target, HEALTH_FINDINGS, "object") == {"one": ["just resolved", "open"], "two": every}
    assert left(target, QUERY_HOURS, "user_name") == {"one": ["new"], "two": ["new", "old", "older"]}
    assert left(target, PATTERN_DAYS, "pattern") == {"one": ["new"], "two": ["new", "old", "older"]}


def test_the_last_success_of_each_job_and_what_runs_stay(postgres: PostgresResource, target: Query) -> None:
    runs = [
        *[("a", "success", 200), ("a", "success", 100), ("a", "failed", 95), ("a", "running", 94), ("a", "failed", 85)],
        *[("b", "success", 300), ("b", "failed", 92), ("c", "success", 99), ("c", "success", 80)],
    ]
    for job, status, ago in runs:
        insert(target, SYNC_LOGS, sync_job_id=job, run_id=f"{job} {ago}", status=status, started_at=ago)
    # The newest success may be that of another cluster.
    target("DELETE FROM quper.sync_logs WHERE cluster = 'one' AND run_id = 'c 80'")
    for name, first, last in (("old", 400, 91), ("older", 400, 92), ("seen again", 400, 89)):
        insert(target, SKIPPED_ROWS, fingerprint=name, first_seen=first, last_seen=last)
    expected = {SYNC_LOGS.fullname: 3, SKIPPED_ROWS.fullname: 2}
    assert retention.purge_logs(postgres, "one", 90, dry_run=True) == expected
    assert retention.purge_logs(postgres, "one", 90) == expected
    every = sorted(f"{job} {ago}" for job, _, ago in runs)
    kept = [run for run in every if run not in ("a 200", "a 95", "b 92", "c 80")]
    assert left(target, SYNC_LOGS, "run_id") == {"one": kept, "two": every}
    names = ["old", "older", "seen again"]
    assert left(target, SKIPPED_ROWS, "fingerprint") == {"one": ["seen again"], "two": names}
