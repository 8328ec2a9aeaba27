"""A cluster beside another one, and a database beside another one, end exactly as if they were alone."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from qupersync_assets.health import all_signals
from qupersync_assets.health.evaluation import evaluate
from qupersync_assets.health.options import HealthOptions
from qupersync_assets.postgres import retention, sync_logs
from qupersync_assets.postgres.cluster_connections import CLUSTER_CONNECTIONS
from qupersync_assets.postgres.health_tables import HEALTH_EVALUATIONS
from qupersync_assets.postgres.job_status import job_states, log_rows
from qupersync_assets.postgres.loader import load, table_state
from qupersync_assets.postgres.resource import PostgresResource
from qupersync_assets.postgres.schema import ensure_schema
from qupersync_assets.postgres.sync_status import SyncStatus
from qupersync_assets.postgres.sync_totals import BUCKETS, bucket_column
from qupersync_assets.rows.source_read import SourceParts, SyncSource
from qupersync_assets.sync_jobs import all_specs
from qupersync_assets.sync_jobs.vacuum_history import SPEC as VACUUMS
from qupersync_assets_tests.support.cluster_story import BASE, LAST, OLD, StorySource, rows
from qupersync_assets_tests.support.integration import Query

CLUSTERS = ("north", "south")
LOG, LOOKBACK = logging.getLogger(__name__), timedelta(hours=1)
SPECS = sorted(all_specs(), key=lambda spec: spec.table.name not in ("column_stats", "query_history"))
# What depends on the clock or on the order of writes: only whether it is NULL is compared.
VOLATILE = {
    *("id", "synced_at", "started_at", "completed_at", "gap_from", "gap_to", "removed_at"),
    *("first_seen", "last_seen", "last_read_at", "opened_at", "resolved_at", "changed_at"),
    *("evaluated_at", "last_evaluated_at", "duration_ms", *map(bucket_column, BUCKETS)),
}
# Of other tables each cluster has two rows. Logins are not those of a load.
FEWEST = {HEALTH_EVALUATIONS.name: 1, CLUSTER_CONNECTIONS.name: 0}
BACK = "started_at = started_at - interval '{}'"
# Nothing is too small to be found.
HEALTH = HealthOptions(
    [spec.sync_job_id for spec in SPECS],
    {id_: 0 for id_, signal in all_signals().items() if signal.threshold is not None},
    large_rows=0,
)
Chapter = Callable[[], None]


@pytest.fixture
def whole(bare: PostgresResource) -> PostgresResource:
    """The target with the tables of all jobs."""
    ensure_schema(bare, SPECS)
    return bare


class Cluster:
    """A cluster with three chapters; `seen` is what each of its loads and reports saw."""

    def __init__(self, postgres: PostgresResource, target: Query, who: int) -> None:
        self.postgres, self.target, self.who, self.name = postgres, target, who, CLUSTERS[who]
        self.seen: list[Any] = []
        self.chapters: list[Chapter] = [self.first, self.second, self.third]

    def first(self) -> None:
        """All rows are new."""
        self.load(0)
        self.evaluate()

    def second(self) -> None:
        """One cluster was paused for longer than Redshift's retention; the other one had a full read today."""
        self.update(sync_logs=BACK.format(("9 days", "-1 day")[self.who]))
        # As if a load had failed hours ago after its last batch: the first read of a day compares all rows.
        self.update(node_details="synced_at = synced_at - interval '2 hours'")
        self.target("DELETE FROM quper.node_details_daily WHERE node = 5 AND cluster = %s", [self.name])
        self.load(1)
        # Now it is the other way round.
        self.update(sync_logs=BACK.format(("-10 days", "3 days")[self.who]))
        self.load(2)
        self.load(LAST)
        self.evaluate()
        self.report()

    def third(self) -> None:
        """Old rows are deleted; those of one cluster are kept for longer."""
        aged = "CASE WHEN sync_job_id < 'm' THEN interval '400 days' ELSE interval '0' END"
        changes = {spec.table.name: "synced_at = synced_at - interval '400 days'" for spec in SPECS}
        for spec in (spec for spec in SPECS if spec.transient):
            changes[spec.table.name] += ", removed_at = removed_at - interval '400 days'"
        self.update(sync_logs=BACK.format("411 days"), skipped_rows=f"last_seen = last_seen - {aged}", **changes)
        days = (100, 1000)[self.who]
        for purge in (retention.purge_history, retention.purge_daily):
            for dry_run in (True, False):
                self.seen.append(purge(self.postgres, self.name, SPECS, days, dry_run=dry_run))
        self.seen.append(retention.purge_logs(self.postgres, self.name, days))

    def load(self, chapter: int) -> None:
        for spec in SPECS if chapter < LAST else [spec for spec in SPECS if spec.kind == "history"]:
            read_to = BASE - timedelta(hours=self.who)
            source = StorySource(spec, f"{self.name}{chapter}", rows(spec, self.who, chapter), chapter != 1, read_to)
            day = (BASE - OLD).date() + timedelta(days=chapter) if chapter < 2 else BASE.date()
            result = load(self.postgres, spec, self.name, f"run {chapter}", source, LOG, LOOKBACK, day=day)
            gap = result.gap and result.gap_seconds > 0
            self.seen.append((spec.sync_job_id, source.windows, result.status, result.counts, result.samples, gap))

    def evaluate(self) -> None:
        """Find the problems of the cluster."""
        found = evaluate(self.postgres, self.name, HEALTH)
        self.seen.append((bool(found.reason), found.opened, found.resolved, found.signals))

    def report(self) -> None:
        """What checks, status, metrics and run health ask."""
        jobs = [spec.sync_job_id for spec in SPECS]
        self.update(sync_logs="completed_at = completed_at + interval '1 day'")  # today, also at midnight
        for spec in SPECS:
            with self.postgres.transaction() as connection:
                table = table_state(connection, spec, self.name)
            runs = [run["source"] for run in table.last_runs]
            self.seen.append((spec.sync_job_id, table.row_count, runs))
        self.target(
            "INSERT INTO quper.sync_logs (cluster, sync_job_id, run_id, status, started_at) "
            "SELECT %s, unnest(%s), 'failed', 'failed', now() + interval '1 hour'",
            [self.name, jobs],
        )
        states = job_states(self.postgres, {self.name: SPECS})
        for state in states:
            totals = [{k: v for k, v in total.items() if k not in VOLATILE} for total in state.totals.values()]
            self.seen.append((state.last and state.last["source"], state.failures, sorted(totals, key=str)))
        self.seen += [s.newest_row_at for s in states]
        self.seen.append([row["source"] for row in log_rows(self.postgres, [self.name])])
        with self.postgres.transaction() as connection:
            for run in ("lost", f"of {self.name}", "stays"):
                for job in jobs[:2]:
                    sync_logs.start(connection, self.name, job, run)
            sync_logs.close_run(connection, self.name, "lost", {jobs[0]: self.name}, SyncStatus.CANCELED, 1, 2)
            self.seen.append(sync_logs.running(connection, self.name, jobs))
            if self.who:
                sync_logs.mark_stale(connection, self.name, "lost", SyncStatus.FAILED, "dead")
            self.seen.append(sync_logs.active_runs(connection, self.name, ["lost", "run 2"], jobs, jobs[:1], 0))

    def update(self, **changes: str) -> None:
        """Change all rows of the cluster, by table."""
        self.target(
            "; ".join(f"UPDATE quper.{table} SET {to} WHERE cluster = '{self.name}'" for table, to in changes.items())
        )

    def outcome(self) -> dict[str, Any]:
        """Everything that is stored for the cluster, and `seen`."""
        return {"seen": self.seen, **stored(self.target, f"cluster = '{self.name}'")}


def tables(target: Query, column: str = "cluster") -> list[str]:
    found = target(
        "SELECT table_name FROM information_schema.columns JOIN information_schema.tables USING (table_schema, "
        "table_name) WHERE table_schema = 'quper' AND column_name = %s AND table_type = 'BASE TABLE'",
        [column],
    )
    return sorted(name for (name,) in found)


def stored(
    target: Query, where: str, names: Sequence[str] = (), volatile: Collection[str] = VOLATILE
) -> dict[str, list[Any]]:
    """Return the rows of all tables that meet a condition, by table."""
    found: dict[str, list[Any]] = {name: [] for name in names or tables(target)}
    value = "CASE WHEN key = ANY(%s) AND value <> 'null' THEN '\"set\"' ELSE value END"
    row = f"(SELECT jsonb_object_agg(key, {value}) FROM jsonb_each(to_jsonb(t)))"
    parts = [f"SELECT '{name}', {row} FROM quper.{name} t WHERE {where}" for name in found]
    for name, values in target(" UNION ALL ".join(parts), len(parts) * [list(volatile)]):
        found[name].append(values)
    return {name: sorted(values, key=str) for name, values in found.items()}


def empty(target: Query) -> None:
    target(f"TRUNCATE {', '.join(f'quper.{table}' for table in tables(target))}")


# Orders of two stories: each place is that of the next chapter of a cluster.
ORDERS = [(0, 1, 0, 1, 1, 0), (1, 0, 1, 0, 0, 1)]


def test_a_cluster_beside_another_ends_as_if_it_were_alone(whole: PostgresResource, target: Query) -> None:
    alone = []
    for who in (0, 1):
        cluster = Cluster(whole, target, who)
        for chapter in cluster.chapters:
            chapter()
        alone.append(cluster.outcome())
        empty(target)
    assert [name for name, found in alone[0].items() if len(found) < FEWEST.get(name, 2)] == []
    for order in ORDERS:
        both = [Cluster(whole, target, who) for who in (0, 1)]
        for who in order:
            both[who].chapters.pop(0)()
        for cluster, expected in zip(both, alone, strict=True):
            found = cluster.outcome()
            different = [name for name in expected if found[name] != expected[name]]
            assert not different, (order, cluster.name, {n: difference(expected[n], found[n]) for n in different})
        empty(target)


# Of each load: which databases it reads, and their chapters; two installations read one database each.
LOADS = [
    *[
        [*([(who, order[:place].count(who))] for place, who in enumerate(order)), [(order[0], 2)], [(1 - order[0], 2)]]
        for order in ((0, 0, 1, 1), (0, 1, 0, 1), (0, 1, 1, 0))
    ],
    *[[[(who, chapter), (1 - who, chapter)] for chapter in range(3)] for who in (0, 1)],
    [[(0, 0), (1, 0)], [(1, 1)], [(0, 1)], [(1, 2), (0, 2)]],
]


def test_a_database_beside_another_ends_as_if_it_were_alone(whole: PostgresResource, target: Query) -> None:
    specs = [spec for spec in SPECS if spec.database_column]

    def load_all(loads: list[list[tuple[int, int]]]) -> list[dict[str, Any]]:
        """Load the databases; return what is stored for each."""
        empty(target)
        for number, parts in enumerate(loads):
            day = (BASE - OLD).date() + timedelta(days=number)
            for spec in specs:
                sources: dict[str, SyncSource] = {}
                for who, chapter in parts:
                    name = CLUSTERS[who]
                    present = rows(spec, who, chapter, name)
                    sources[name] = StorySource(spec, "view", present, chapter != 1, database=name)
                source = Parts(SourceParts(sources, existing=frozenset(CLUSTERS)))
                load(whole, spec, "one", str(uuid4()), source, LOG, LOOKBACK, day=day)
            # The vacuums of all databases are one history.
            found = [row for who, chapter in parts for row in vacuums(who, chapter)]
            load(whole, VACUUMS, "one", str(uuid4()), StorySource(VACUUMS, "view", found, raw=False), LOG, LOOKBACK)
        result: list[dict[str, Any]] = []
        for name in CLUSTERS:
            result.append({})
            for spec in specs:
                result[-1] |= stored(
                    target, f"{spec.database_column} = '{name}'", [t.name for t in spec.tables], {*VOLATILE, "day"}
                )
        return result

    alone = [load_all([[(who, chapter)] for chapter in range(3)])[who] for who in (0, 1)]
    for expected in alone:
        assert all(any("removed_at" in row and row["removed_at"] for row in expected[s.table.name]) for s in specs)
    for loads in LOADS:
        assert load_all(loads) == alone, loads


def vacuums(who: int, chapter: int) -> list[dict[str, Any]]:
    """The vacuums of a database; transactions are those of the whole cluster."""
    known = {"database_name": CLUSTERS[who]}
    return [
        row | known | {"xid": row["xid"] + 100 * who} for row in rows(VACUUMS, who, chapter) if row["xid"] is not None
    ]


@dataclass
class Parts:
    """A source with the given parts."""

    found: SourceParts

    def parts(self) -> SourceParts:
        return self.found


def difference(expected: Sequence[Any], found: Sequence[Any]) -> list[Any]:
    """Return the first items that differ."""
    missing = [item for item in expected if item not in found][:2]
    return [missing, [item for item in found if item not in expected][:2]]
