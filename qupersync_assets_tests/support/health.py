"""Writes rows of two clusters into a target, and evaluates their health."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from qupersync_assets.health.evaluation import Evaluation, evaluate
from qupersync_assets.health.options import HealthOptions
from qupersync_assets.postgres.resource import PostgresResource
from qupersync_assets.sync_jobs import all_specs
from qupersync_assets_tests.support.integration import Query

JOBS = tuple(spec.sync_job_id for spec in all_specs())
# Values of quper.query_metrics.
METRICS = (
    *("spilled_local_mb", "rows_inserted", "nested_loop_rows", "broadcast_rows", "unsorted_rows"),
    "largest_table_name",
)
# A table without any problem.
TABLE = {
    "database": "dev",
    "schema": "sales",
    "encoded": "Y, AUTO(ENCODE)",
    "diststyle": "AUTO(KEY(id))",
    "sort_key1": "AUTO(SORTKEY(created_at))",
    "sortkey1_enc": "none",
    "sortkey_num": 1,
    "size_mb": 1000,
    "unsorted_pct": 0,
    "stats_off_pct": 0,
    "tbl_rows": 10_000_000,
    "estimated_visible_rows": 10_000_000,
    "skew_rows": 1,
    "vacuum_sort_benefit_pct": 0,
}


@dataclass
class Clusters:
    """A target with a cluster `sick`, and one beside it, `well`, whose rows have the same keys and no problem."""

    postgres: PostgresResource
    target: Query
    now: datetime = field(default_factory=lambda: datetime.now(UTC).replace(minute=30, second=0, microsecond=0))

    def insert(self, table: str, *rows: dict[str, Any], cluster: str = "sick") -> None:
        """Insert rows of one cluster into a table of the schema quper."""
        for row in ({"cluster": cluster, **row} for row in rows):
            names = ", ".join(f'"{name}"' for name in row)
            places = ", ".join(["%s"] * len(row))
            self.target(f"INSERT INTO quper.{table} ({names}) VALUES ({places})", list(row.values()))

    def table(self, number: int, cluster: str = "sick", **values: Any) -> str:
        """Insert a table that has no problem, except for the given values; return its name as findings show it."""
        row = TABLE | {"table_id": number, "table_name": f"table_{number}"} | values
        self.insert("table_stats", row, cluster=cluster)
        return f"{row['database']}.{row['schema']}.{row['table_name']}"

    def columns(self, table_id: int, *columns: dict[str, Any], cluster: str = "sick") -> None:
        """Insert the columns of a table, which are compressed unless they say otherwise."""
        for number, column in enumerate(columns, 1):
            same = {"table_catalog": "dev", "table_schema": "sales", "table_name": f"table_{table_id}"}
            row = {"column_name": f"column_{number}", "data_type": "integer", "encoding": "az64", "table_id": table_id}
            self.insert("column_stats", same | row | column, cluster=cluster)

    def synced(self, *jobs: str, cluster: str = "sick", status: str = "success", written: int = 1) -> None:
        """Record a sync of the jobs, by default of all, that ended now."""
        for job in jobs or JOBS:
            self.insert(
                "sync_logs",
                {
                    "sync_job_id": job,
                    "run_id": str(self.now),
                    "status": status,
                    "started_at": self.now - timedelta(seconds=20),
                    "completed_at": None if status == "running" else self.now - timedelta(seconds=10),
                    "rows_inserted": written,
                    "error": None if status == "success" else "because",
                },
                cluster=cluster,
            )

    def evaluate(self, cluster: str = "sick", **options: Any) -> Evaluation:
        """Evaluate a cluster now."""
        return evaluate(self.postgres, cluster, HealthOptions(**{"jobs_on": JOBS} | options), now=self.now)

    def open(self, group: str, cluster: str = "sick") -> list[tuple[str, str, float]]:
        """Return signal, object and value of the open findings of a group."""
        return [
            (signal, name, float(value))
            for signal, name, value in self.target(
                "SELECT signal_id, object, value FROM quper.health_open WHERE cluster = %s AND group_id = %s "
                "ORDER BY signal_id, object",
                [cluster, group],
            )
        ]

    def finds(self, group: str, **options: Any) -> list[tuple[str, str, float]]:
        """Sync and evaluate both clusters; return what a group finds in `sick`, if it finds nothing in `well`."""
        for cluster in ("sick", "well"):
            self.synced(cluster=cluster)
            evaluation = self.evaluate(cluster, **options)
            failed = {name: s.reason for name, s in evaluation.signals.items() if s.status == "failed"}
            assert not failed, failed
        assert self.open(group, "well") == []
        return self.open(group)

    def queries(self, count: int = 1, *, hours: float = 1, cluster: str = "sick", **values: Any) -> None:
        """Insert queries that started some hours ago, one a second, and ran for a second; with their metrics."""
        start = self.now.replace(minute=0) - timedelta(hours=hours)
        metrics = {name: values.pop(name) for name in METRICS if name in values}
        same = {"query_type": "SELECT", "status": "success", "database_name": "dev", "user_name": "anna"}
        times = {"elapsed_time_us": 1_000_000, "execution_time_us": 1_000_000, "queue_time_us": 0}
        queue = {"service_class_id": 100, "service_class_name": "Default queue", "compute_type": "primary"}
        row = same | times | queue | {"generic_query_hash": "p1", "synced_at": self.now} | values
        names = ", ".join(row)
        [(first,)] = self.target("SELECT coalesce(max(query_id), 0) + 1 FROM quper.query_history")
        self.target(
            f"INSERT INTO quper.query_history (cluster, query_id, start_time, end_time, {names}) "
            f"SELECT %s, n, %s + (n - %s) * interval '1 second', %s + (n - %s + 1) * interval '1 second', "
            f"{', '.join(['%s'] * len(row))} FROM generate_series(%s, %s) AS n",
            [cluster, start, first, start, first, *row.values(), first, first + count - 1],
        )
        if metrics:
            self.target(
                f"INSERT INTO quper.query_metrics (cluster, query_id, start_time, synced_at, {', '.join(metrics)}) "
                f"SELECT cluster, query_id, start_time, synced_at, {', '.join(['%s'] * len(metrics))} "
                "FROM quper.query_history WHERE cluster = %s AND query_id BETWEEN %s AND %s",
                [*metrics.values(), cluster, first, first + count - 1],
            )
