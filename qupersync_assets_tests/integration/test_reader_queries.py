"""The queries for readers of deploy/sql run on the rows of all jobs, and the pages find them."""

from __future__ import annotations

import json
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest

from qupersync_assets.health.evaluation import evaluate
from qupersync_assets.health.options import HealthOptions
from qupersync_assets.postgres.health_views import HEALTH_VIEWS
from qupersync_assets.postgres.resource import PostgresResource
from qupersync_assets.postgres.schema import tables
from qupersync_assets.sandbox import Sandbox
from qupersync_assets.sandbox.workload.past import write_past
from qupersync_assets.sync_jobs import all_specs
from qupersync_assets.sync_jobs.query_history import SPEC as QUERIES
from qupersync_assets_tests.support.expected_optional_rows import OPTIONAL_ORACLES
from qupersync_assets_tests.support.expected_rows import ORACLES
from qupersync_assets_tests.support.integration import Query, Sync
from tools.grafana import boards
from tools.grafana.macros import expand, statements
from tools.reader_queries import pages, reader_queries

# The sandbox runs provisioned Redshift, and its rows have no history before today.
MAX_LINES = 15
HOSTILE = "o'brien\\' -- ${cluster} $__interval"
# Panels with a row of zeros, and the list of clusters.
OF_NO_CLUSTER = {"Open findings", "variable cluster"}
WITHOUT_ROWS = {"quper.serverless_usage", "quper.skipped_rows", "quper.table_stats_daily"}


def test_each_table_and_view_has_an_example() -> None:
    of_jobs = {view.name for spec in all_specs() for view in spec.all_views if not view.name.endswith("_current")}
    views = of_jobs | {view.name for view in HEALTH_VIEWS}
    names = {f"quper.{name}" for name in views | {table.name for table in tables(all_specs())}}
    assert set(reader_queries("examples")) <= names
    added = {f"quper.{spec.table.name}" for spec in all_specs() if spec.table.name not in {*ORACLES, *OPTIONAL_ORACLES}}
    assert names - set(reader_queries("examples")) <= added, "each job of QuperSync has an example"
    for name, sql in reader_queries("examples").items():
        assert name in sql.replace("_current", ""), name


def test_pages_are_short_and_in_the_plain_spelling() -> None:
    for title, sql in reader_queries("pages").items():
        assert len(sql.splitlines()) <= MAX_LINES and "NULLS" not in sql, title


def test_examples_and_pages_find_rows(
    filled: Sandbox, sync: Sync, target: Query, bare: PostgresResource, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = [spec.sync_job_id for spec in all_specs()]
    monkeypatch.setenv("SYNC_JOBS", ",".join(jobs))
    filled.workload().add_problems(datetime.now(UTC))
    assert sync().success
    assert not evaluate(bare, "sandbox", HealthOptions(jobs)).reason
    empty = [name for name, sql in reader_queries("examples").items() if not target(sql)]
    assert set(empty) <= WITHOUT_ROWS
    check_boards(filled)
    queries = [c.name for c in QUERIES.table.c if c.computed is None and c.name != "cluster"]
    names = ", ".join(queries)
    target(f"INSERT INTO quper.query_history (cluster, {names}) SELECT 'other', {names} FROM quper.query_history")
    one, all_clusters = pages("sandbox"), pages(None)
    assert [title for title, sql in one.items() if not target(sql)] == []
    assert [title for title in one if len(target(all_clusters[title])) < len(target(one[title]))] == []
    assert len(target(pages("other")["The 50 longest queries"])) == 50
    for title in ("Skew", "Databases", "Alerts of the last day by table"):
        assert target(pages("other")[title]) == [], title


def check_boards(sandbox: Sandbox) -> None:
    """Run each statement of the dashboards on PostgreSQL as a reader, on the problems of the demo and its past."""
    with closing(sandbox.connect_quper()) as connection, connection.cursor() as cursor:
        assert write_past(cursor)
        cursor.execute(
            "SELECT a.table_id, a.query_id, (SELECT max(pattern) FROM quper.health_pattern_days WHERE failed > 0) "
            "FROM quper.alert_events AS a JOIN quper.query_metrics AS m USING (cluster, query_id) "
            "JOIN quper.table_stats AS t ON t.table_id = a.table_id AND t.table_name = 'audit_log' LIMIT 1"
        )
        table_id, query_id, pattern = map(str, cursor.fetchone())
        # The privileges of quper_readers in deploy/sql/postgres.sql; the role ends with the transaction.
        cursor.execute(
            "CREATE ROLE board_reader; GRANT USAGE ON SCHEMA quper TO board_reader; "
            "GRANT SELECT ON ALL TABLES IN SCHEMA quper TO board_reader; SET ROLE board_reader"
        )
        chosen: dict[str, str | list[str]] = {"cluster": "sandbox", "search": ""}
        chosen |= {"table_id": table_id, "query_id": query_id, "pattern": pattern}
        nothing = {**chosen, "cluster": HOSTILE, "database": HOSTILE, "search": HOSTILE, "pattern": HOSTILE}
        narrow = {**chosen, "database": ["redshift", HOSTILE], "user": ["bi_looker", HOSTILE]}
        now = datetime.now(UTC) + timedelta(seconds=1)  # dashboards cut times to seconds
        for board in map(json.loads, boards().values()):
            # A field for text is empty at first; a choice has all values.
            fields = {v["name"]: "" for v in board["templating"]["list"] if v["type"] == "textbox"}
            found: dict[str, list[int]] = {}
            for name, sql in statements(board):
                for variables in (fields | chosen, fields | narrow, fields | nothing, fields | {"cluster": "sandbox"}):
                    cursor.execute(expand(sql, variables, now - timedelta(days=7), now))
                    found.setdefault(name, []).append(len(cursor.fetchall()))
            assert [name for name, counts in found.items() if not all(counts[:2])] == []
            of_nothing = {name.partition(": ")[2] for name, counts in found.items() if counts[2]}
            assert of_nothing <= OF_NO_CLUSTER
