"""Measures the evaluation of findings: the first one, and those after a sync."""

from __future__ import annotations

import statistics
from typing import Any

from qupersync_assets.health.evaluation import evaluate
from qupersync_assets.health.options import HealthOptions
from qupersync_assets.postgres.resource import PostgresResource
from qupersync_assets.sync_jobs import all_specs

LIMIT_SECONDS = 2.0
# Newer queries than all others, as a sync of five minutes writes them.
_NEW_QUERIES = """
INSERT INTO quper.query_history (cluster, query_id, start_time, end_time, status, query_type, service_class_id,
    user_name, elapsed_time_us, execution_time_us, generic_query_hash)
SELECT 'default', 1e9 + %(round)s * 1000 + n, now(), now(), 'success', 'SELECT', 100, 'user_1', 1000000, 900000,
    md5((n %% 50)::text)
FROM generate_series(1, 500) AS n"""
_SYNCED = """
INSERT INTO quper.sync_logs (cluster, sync_job_id, run_id, status, started_at, completed_at, rows_inserted)
SELECT cluster, job, %(run)s, 'success', now(), now(), 1
FROM unnest(ARRAY['default', 'other']) AS cluster CROSS JOIN unnest(%(jobs)s) AS job"""


def measure(postgres: PostgresResource, cursor: Any, rounds: int) -> dict[str, float]:
    """Return the seconds of the first evaluation of cluster `default`, the median of those after a sync of new queries,
    and the number of open findings."""
    jobs = [spec.sync_job_id for spec in all_specs()]
    options = HealthOptions(jobs)
    cursor.execute(_SYNCED, {"run": "first", "jobs": jobs})
    first = evaluate(postgres, "default", options).seconds
    evaluate(postgres, "other", options)
    cursor.execute("VACUUM ANALYZE")
    took = []
    for number in range(rounds):
        cursor.execute(_NEW_QUERIES, {"round": number})
        cursor.execute(_SYNCED, {"run": f"round {number}", "jobs": jobs})
        took.append(evaluate(postgres, "default", options).seconds)
    cursor.execute("SELECT count(*) FROM quper.health_open WHERE cluster = 'default'")
    [[opened]] = cursor.fetchall()
    return {"first": first, "next": statistics.median(took), "open": opened}
