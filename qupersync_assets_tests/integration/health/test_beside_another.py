"""Findings of a cluster with problems of every kind do not change when clusters with similar rows are beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

import pytest
import sqlalchemy as sa

from qupersync_assets.health import all_signals
from qupersync_assets.health.evaluation import evaluate
from qupersync_assets.health.options import HealthOptions
from qupersync_assets.postgres.daily_history import SNAPSHOT_DAYS
from qupersync_assets.postgres.query_sums import QUERY_SUMS
from qupersync_assets.postgres.resource import PostgresResource
from qupersync_assets.sandbox import Sandbox
from qupersync_assets.sandbox.workload.past import write_past
from qupersync_assets.sync_jobs import all_specs
from qupersync_assets_tests.support.integration import Query, Sync

FINDINGS = (
    "SELECT signal_id, object, value_now, size_mb, times, target, note, query_id, resolved_at IS NULL "
    "FROM quper.health_findings WHERE cluster = 'sandbox' ORDER BY 1, 2"
)


def test_similar_clusters_change_no_finding(
    filled: Sandbox, sync: Sync, target: Query, bare: PostgresResource, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = HealthOptions([spec.sync_job_id for spec in all_specs()])
    monkeypatch.setenv("SYNC_JOBS", ",".join(options.jobs_on))
    filled.workload().add_problems(datetime.now(UTC))
    assert sync().success
    with closing(filled.connect_quper()) as connection, connection, connection.cursor() as cursor:
        assert write_past(cursor)
    now = datetime.now(UTC)
    evaluate(bare, "sandbox", options, now=now)
    alone = target(FINDINGS)
    assert len({signal for signal, *_ in alone}) > len(all_signals()) / 2
    for name, value in (("same keys", numbers), ("same problems", keys)):
        for statement in copies("sandbox", name, value):
            target(statement)
    evaluate(bare, "sandbox", options, now=now, always=True)
    assert target(FINDINGS) == alone
    assert evaluate(bare, "same problems", options, now=now, always=True).opened


def copies(cluster: str, other: str, value: Callable[[sa.Column[Any]], str]) -> Iterator[str]:
    """Yield the statements that give a cluster the rows of another one, with other values."""
    for table in dict.fromkeys([*(t for spec in all_specs() for t in spec.tables), *QUERY_SUMS, SNAPSHOT_DAYS]):
        columns = [c for c in table.c if c.computed is None and c.name != "cluster"]
        names = ", ".join(f'"{c.name}"' for c in columns)
        yield (
            f"INSERT INTO {table.fullname} (cluster, {names}) "
            f"SELECT '{other}', {', '.join(map(value, columns))} FROM {table.fullname} WHERE cluster = '{cluster}'"
        )
    same = "sync_job_id, run_id, status, started_at, completed_at, read_to"
    yield (
        f"INSERT INTO quper.sync_logs (cluster, {same}) "
        f"SELECT '{other}', {same} FROM quper.sync_logs WHERE cluster = '{cluster}'"
    )


def numbers(column: sa.Column[Any]) -> str:
    """Return other numbers, and later times in a key."""
    name, type_ = f'"{column.name}"', column.type
    if column.primary_key or column.name.endswith("_id"):
        return f"{name} + interval '1 day'" if isinstance(type_, (sa.Date, sa.DateTime)) else name
    if isinstance(type_, sa.BigInteger) or (isinstance(type_, sa.Numeric) and (type_.precision or 38) > 18):
        return f"{name} * 3 + 1"
    # A larger number may not fit.
    return f"{name} / 2 + 1" if isinstance(type_, (sa.Integer, sa.Numeric)) else name


def keys(column: sa.Column[Any]) -> str:
    """Return another key, with earlier times."""
    name, type_ = f'"{column.name}"', column.type
    if not column.primary_key:
        return name
    if isinstance(type_, (sa.Date, sa.DateTime)):
        return f"{name} - interval '3 days'"
    return f"'x' || {name}" if isinstance(type_, sa.Text) else f"{name} + 100000"
