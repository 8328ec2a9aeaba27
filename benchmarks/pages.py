"""Measures the pages of readers, and the size of a year of daily history."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from hashlib import md5
from pathlib import Path
from typing import Any

from benchmarks import health
from benchmarks.rounds import Log
from benchmarks.world import World
from qupersync_assets.postgres.resource import PostgresResource
from qupersync_assets.postgres.schema import ensure_schema
from qupersync_assets.settings.postgres import StorageSettings
from qupersync_assets.sync_jobs import all_specs
from tools.grafana import boards
from tools.grafana.macros import expand, statements
from tools.reader_queries import pages

QUERIES, TABLES = 1_000_000, 50_000
LIMIT_MS, PANEL_LIMIT_MS = 50, 100
_DAILY_TABLE = "quper.table_stats_daily"

# A row for each table on the first day, then for one of ten on each day of the year; in the order of the loads.
_DAILY = f"""
INSERT INTO {_DAILY_TABLE} (
    cluster, table_id, database, day, schema, table_name, size_mb, tbl_rows, unsorted_pct, stats_off_pct,
    pct_rows_marked_for_deletion, skew_rows, scans, removed
)
SELECT cluster, table_id, database, current_date - 364 + day, schema, table_name, size_mb + day, tbl_rows + day * 1000,
    unsorted_pct, stats_off_pct, pct_rows_marked_for_deletion, skew_rows, 3, false
FROM generate_series(0, 364) AS day
JOIN quper.table_stats ON day = 0 OR (table_id + day) %% 10 = 0
WHERE cluster = %s
ORDER BY day, table_id
"""


def measure(world: World, rows: int, rounds: int, log: Log) -> dict[str, Any]:
    """Return the milliseconds of each page, of one cluster and of both, of each panel of the dashboards on PostgreSQL,
    and the size of the daily history."""
    found: dict[str, Any] = {"queries": QUERIES, "tables": TABLES}
    found |= _fill(world, rounds)
    log(f"daily history: {found['daily rows']:,} rows, {found['daily MB']:,.0f} MB")
    log(f"evaluation of findings: {found['health']['next']:.2f} s, the first one {found['health']['first']:.2f} s")
    # PostgreSQL's default, less than the benchmark's server has.
    with world.cursor("quper") as cursor:
        cursor.execute("SET work_mem = '4MB'")
        both = pages(None)
        found["pages"] = {}
        for title, one in pages("default").items():
            took = {"one": _run(cursor, one, rounds), "both": _run(cursor, both[title], rounds)}
            found["pages"][title] = {"lines": len(one.splitlines()), **took}
            log(f"{title}: {took['one']:.1f} ms, both clusters {took['both']:.1f} ms")
        found["panels"] = {}
        for title, sql in _panels(datetime.now(UTC)):
            found["panels"][title] = _run(cursor, sql, rounds)
            log(f"{title}: {found['panels'][title]:.1f} ms")
    return found


def _fill(world: World, rounds: int) -> dict[str, Any]:
    target = {name.lower(): value for name, value in world.environment.items() if name.startswith("POSTGRES_")}
    postgres = PostgresResource(StorageSettings.load(**target))
    ensure_schema(postgres, all_specs())
    with world.cursor("quper") as cursor:
        cursor.execute(Path(__file__).with_suffix(".sql").read_text(), {"queries": QUERIES, "tables": TABLES})
        cursor.execute(_DAILY, ["default"])
        cursor.execute(f"SELECT count(*), pg_total_relation_size('{_DAILY_TABLE}') FROM {_DAILY_TABLE}")
        rows, size = cursor.fetchone()
        cursor.execute(_DAILY, ["other"])
        cursor.execute("VACUUM ANALYZE")
        # For the dashboards: sums over queries, and findings.
        evaluated = health.measure(postgres, cursor, rounds)
        cursor.execute("VACUUM ANALYZE")
    return {"daily rows": rows, "daily MB": size / 2**20, "health": evaluated}


def _panels(now: datetime) -> Iterator[tuple[str, str]]:
    """Yield the statements of the dashboards, of the seven days that they show at first, and of what exists."""
    chosen = {"cluster": "default", "table_id": "20", "search": "orders", "query_id": f"{QUERIES // 2}"}
    chosen |= {"pattern": md5(b"100", usedforsecurity=False).hexdigest()}
    for board in map(json.loads, boards().values()):
        fields = {v["name"]: "" for v in board["templating"]["list"] if v["type"] == "textbox"}
        for title, sql in statements(board):
            yield title, expand(sql, fields | chosen, now - timedelta(days=7), now)


def _run(cursor: Any, query: str, rounds: int) -> float:
    """Return the median time to plan and execute a query, after a first execution, in milliseconds."""
    took = []
    for _ in range(rounds + 1):
        cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {query}")
        [[plan]] = cursor.fetchone()
        took.append(plan["Planning Time"] + plan["Execution Time"])
    return float(statistics.median(took[1:]))
