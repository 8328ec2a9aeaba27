"""The view of vacuums pairs the start and the end of each."""

from __future__ import annotations

from qupersync_assets.postgres.resource import PostgresResource
from qupersync_assets_tests.support.integration import Query

# (cluster, transaction, table, status, minute, rows, blocks)
STEPS = [
    ("one", 1, 7, "Started Delete Only", 0, 100, 50),
    ("one", 1, 7, "Finished", 5, 80, 40),
    ("two", 1, 7, "Finished", 1, 1, 1),
    # Two vacuums of one table in one transaction.
    ("one", 2, 7, "[VacuumBG] Started Ranged Part", 10, 90, 45),
    ("one", 2, 7, "[VacuumBG] Finished", 11, 85, 44),
    ("one", 2, 7, "[VacuumBG] Started Sort Only", 20, 85, 44),
    ("one", 2, 7, "[VacuumBG] Failed", 21, 85, 44),
    ("one", 3, 7, "Started", 30, 90, 45),  # aborted, and started again
    ("one", 3, 7, "Started", 40, 90, 45),
    ("one", 3, 7, "Finished", 42, 90, 45),
    ("one", 4, 8, "Skipped (0 rows)", 50, 0, 0),
]


def test_each_vacuum_is_one_row(postgres: PostgresResource, target: Query) -> None:
    for step in STEPS:
        target(
            "INSERT INTO quper.vacuum_history (cluster, xid, table_id, status, eventtime, rows, blocks) "
            "VALUES (%s, %s, %s, %s, '2026-11-01 00:00+00'::timestamptz + %s * interval '1 min', %s, %s)",
            step,
        )
    target("INSERT INTO quper.table_stats (cluster, database, schema, table_id, table_name) VALUES "
           "('one', 'd', 's', 7, 't'), ('two', 'd', 's', 7, 'other'), "
           "('one', 'd', 's', 8, 'this'), ('one', 'e', 's', 8, 'or this')")  # fmt: skip
    rows = target(
        "SELECT xid, table_name, is_automatic, vacuum_type, outcome, duration_s::int, rows_reclaimed, mb_reclaimed "
        "FROM quper.vacuums ORDER BY started_at"
    )
    assert rows == [
        (1, "t", False, "DELETE ONLY", "finished", 300, 20, 10),
        (2, "t", True, "RANGED PARTITION", "finished", 60, 5, 1),
        (2, "t", True, "SORT ONLY", "failed", 60, 0, 0),
        (3, "t", False, "FULL", None, None, None, None),
        (3, "t", False, "FULL", "finished", 120, 0, 0),
        (4, None, False, None, "skipped", None, None, None),
    ]


def test_views_and_their_columns_have_comments(postgres: PostgresResource, target: Query) -> None:
    missing = target(
        "SELECT c.relname, a.attname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 "
        "WHERE c.relnamespace = 'quper'::regnamespace AND c.relkind = 'v' "
        "AND (obj_description(c.oid) IS NULL OR col_description(c.oid, a.attnum) IS NULL)"
    )
    assert missing == []
