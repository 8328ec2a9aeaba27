"""What readers see of a cluster with problems of every kind does not change when similar clusters are beside it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest
import sqlalchemy as sa

from qupersync_assets.health import all_signals, groups, readers
from qupersync_assets.health.evaluation import evaluate
from qupersync_assets.health.options import HealthOptions
from qupersync_assets.health.report.plots import PLOTS
from qupersync_assets.postgres.daily_history import SNAPSHOT_DAYS
from qupersync_assets.postgres.query_sums import QUERY_SUMS
from qupersync_assets.postgres.resource import PostgresResource
from qupersync_assets.sandbox import Sandbox
from qupersync_assets.sandbox.workload.past import write_past
from qupersync_assets.sync_jobs import all_specs
from qupersync_assets_tests.support.integration import Query, Sync

Value = Callable[[sa.Column[Any]], str]
# Conditions on the cluster or on the database.
OWN = re.compile(
    r"(?<![\w.])(?:\w+\.)?cluster = (?::cluster|\w+\.cluster)\b|(?<=USING \()cluster, "
    r"|\b\w+\.(?:database|table_catalog) = (?:\w+\.database\b|coalesce\([^)]+\))"
)
WITH_CLUSTER = (
    "SELECT table_name FROM information_schema.columns JOIN information_schema.tables USING (table_schema, table_name) "
    "WHERE table_schema = 'quper' AND column_name = 'cluster'"
)


def test_similar_clusters_change_no_finding_view_or_plot(
    filled: Sandbox, sync: Sync, target: Query, bare: PostgresResource, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = HealthOptions([spec.sync_job_id for spec in all_specs()])
    monkeypatch.setenv("SYNC_JOBS", ",".join(options.jobs_on))
    filled.workload().add_problems(datetime.now(UTC))
    assert sync().success
    with closing(filled.connect_quper()) as connection, connection, connection.cursor() as cursor:
        assert write_past(cursor)
    # Only Serverless has it.
    target(
        "INSERT INTO quper.serverless_usage (cluster, start_time, compute_capacity_rpu) SELECT 'sandbox', "
        "now() - n * interval '1 min', CASE n % 4 WHEN 0 THEN 64 ELSE 8 END FROM generate_series(1, 100) n; "
        "UPDATE quper.sync_logs SET status = 'success' WHERE sync_job_id = 'serverless_usage_sync'"
    )
    now = datetime.now(UTC)
    evaluate(bare, "sandbox", options, now=now)
    alone = seen(bare, target, now)
    assert len({signal for _, _, signal, *_ in alone["health_open"]}) > len(all_signals()) / 2
    assert [name for name, rows in alone.items() if not rows] == []
    for name, given in OTHERS.items():
        for value, where in given:
            for statement in copies(name, value, where):
                target(statement)
    evaluate(bare, "sandbox", options, now=now, always=True)
    beside = seen(bare, target, now)
    assert [name for name in alone if alone[name] != beside[name]] == []
    with bare.transaction() as connection:
        assert list(unnoticed(connection, options, now)) == []
    assert evaluate(bare, "same problems", options, now=now, always=True).opened


def seen(postgres: PostgresResource, target: Query, now: datetime) -> dict[str, Any]:
    """Return what readers see of the cluster: rows of all views, data of plots, and summaries."""
    found: dict[str, Any] = {
        name: target(f"SELECT * FROM quper.{name} AS v WHERE cluster = 'sandbox' ORDER BY v::text")
        for (name,) in target(f"{WITH_CLUSTER} AND table_type = 'VIEW'")
    }
    with postgres.transaction() as connection:
        for plot in PLOTS:
            found[plot.id] = connection.execute(sa.text(plot.sql), {"cluster": "sandbox", "now": now}).all()
        found["worst"] = readers.worst_of_groups(connection, "sandbox", 3)
        for read in (readers.open_findings, readers.summaries, readers.left_out, readers.evaluated_at):
            found[read.__name__] = read(connection, ["sandbox"])
    return found


def unnoticed(connection: sa.Connection, options: HealthOptions, now: datetime) -> Iterator[str]:
    """Yield the lines of signals and plots with a condition of OWN without which no cluster would have other rows.

    With all conditions each cluster has the same rows as in temporary views that show no other cluster.
    """
    for name in connection.scalars(sa.text(WITH_CLUSTER)).all():
        only = f"SELECT * FROM quper.{name} WHERE cluster = current_setting('test.cluster')"
        connection.execute(sa.text(f"CREATE TEMPORARY VIEW {name} AS {only}"))
    for group in groups().values():
        found = {signal.sql: options.threshold(signal.id) for signal in group.signals if not signal.unavailable}
        hour = now.replace(minute=0, second=0, microsecond=0)
        yield from _unnoticed(connection, {"now": hour, "large_rows": 1}, group.prepared, found)
    for plot in PLOTS:
        yield from _unnoticed(connection, {"now": now}, {}, {plot.sql: None})


def _unnoticed(
    connection: sa.Connection, same: dict[str, Any], prepared: Mapping[str, str], found: Mapping[str, float | None]
) -> Iterator[str]:
    def rows(cluster: str, change: Callable[[str], str]) -> list[Any]:
        def run(sql: str, beginning: str = "", **others: Any) -> sa.CursorResult[Any]:
            return connection.execute(sa.text(beginning + change(sql)), {"cluster": cluster} | same | others)

        with connection.begin_nested() as savepoint:
            connection.execute(sa.text("SELECT set_config('test.cluster', :cluster, true)"), {"cluster": cluster})
            for name, sql in prepared.items():
                run(sql, f"CREATE TEMPORARY TABLE {name} AS ")
            results = [sorted(map(str, run(sql, threshold=threshold))) for sql, threshold in found.items()]
            savepoint.rollback()
        return results

    alone = {name: rows(name, lambda sql: sql.replace("quper.", "pg_temp.")) for name in ("sandbox", *OTHERS)}
    for name in alone:
        assert rows(name, str) == alone[name], (name, list(found))
    for line in dict.fromkeys(line for sql in (*prepared.values(), *found) for line in sql.split("\n")):
        for match in OWN.finditer(line):
            other = line[: match.start()] + ("true" if "=" in match[0] else "") + line[match.end() :]
            with suppress(sa.exc.DBAPIError):  # such as two rows in place of one
                if all(rows(name, partial(replace_line, line, other)) == alone[name] for name in alone):
                    yield line


def replace_line(line: str, other: str, sql: str) -> str:
    return "\n".join(other if each == line else each for each in sql.split("\n"))


def copies(other: str, value: Value, where: Callable[[sa.Table], str]) -> Iterator[str]:
    """Yield the statements that give a cluster rows of the cluster `sandbox`, with other values."""
    for table in dict.fromkeys([*(t for spec in all_specs() for t in spec.tables), *QUERY_SUMS, SNAPSHOT_DAYS]):
        columns = [c for c in table.c if c.computed is None and c.name != "cluster"]
        names = ", ".join(f'"{c.name}"' for c in columns)
        yield (
            f"INSERT INTO {table.fullname} (cluster, {names}) SELECT '{other}', {', '.join(map(value, columns))} "
            f"FROM {table.fullname} WHERE cluster = 'sandbox' AND {where(table)}"
        )
    same = "sync_job_id, run_id, status, started_at, completed_at, read_to"
    yield (
        f"INSERT INTO quper.sync_logs (cluster, {same}) "
        f"SELECT '{other}', {same} FROM quper.sync_logs WHERE cluster = 'sandbox' ON CONFLICT DO NOTHING"
    )


def is_time(column: sa.Column[Any]) -> bool:
    return isinstance(column.type, sa.Date | sa.DateTime)


def numbers(column: sa.Column[Any]) -> str:
    """Return other numbers, and later times in a key."""
    name, type_ = f'"{column.name}"', column.type
    if column.primary_key or column.name.endswith("_id"):
        return f"{name} + interval '1 day'" if is_time(column) else name
    if isinstance(type_, sa.BigInteger) or (isinstance(type_, sa.Numeric) and (type_.precision or 38) > 18):
        return f"{name} * 3 + 1"
    # A larger number may not fit.
    return f"{name} / 2 + 1" if isinstance(type_, (sa.Integer, sa.Numeric)) else name


def keys(column: sa.Column[Any]) -> str:
    """Return another key, with earlier times."""
    name, type_ = f'"{column.name}"', column.type
    if not column.primary_key:
        return name
    if is_time(column):
        return f"{name} - interval '3 days'"
    return f"'x' || {name}" if isinstance(type_, sa.Text) else f"{name} + 100000"


def old(column: sa.Column[Any]) -> str:
    return f"\"{column.name}\" - interval '40 days'" if is_time(column) else f'"{column.name}"'


def more_files(column: sa.Column[Any]) -> str:
    """Return as many files as slices."""
    is_count = column.name in ("source_file_count", "splits_scanned")
    return "(SELECT sum(slices) FROM quper.node_slices WHERE cluster = 'sandbox')" if is_count else f'"{column.name}"'


def elsewhere(column: sa.Column[Any]) -> str:
    is_database = any(column.name == spec.database_column for spec in all_specs())
    return "'elsewhere'" if is_database else f'"{column.name}"'


def has_database(table: sa.Table) -> str:
    return "true" if any(spec.database_column and table in spec.tables for spec in all_specs()) else "false"


def is_new(table: sa.Table) -> str:
    """Return the condition for the rows of a cluster of three days, which has no alert, and no queue with a rule."""
    if table.name == "wlm_queues":
        return "service_class NOT IN (SELECT service_class FROM quper.wlm_rules)"
    times = [f"{c.name} > now() - interval '3 days'" for c in table.primary_key.columns if is_time(c)]
    return " AND ".join(["false" if table.name == "alert_events" else "true", *times])


# Other clusters: the values of their rows, and which rows of the first cluster they have too.
OTHERS: dict[str, list[tuple[Value, Callable[[sa.Table], str]]]] = {
    "same keys": [(numbers, lambda _: "true"), (elsewhere, has_database)],
    "same problems": [(keys, lambda _: "true")],
    "new": [(more_files, is_new)],
    "old": [(old, lambda table: "false" if table.name == "wlm_rules" else "true")],
}
