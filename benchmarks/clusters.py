"""Measures a second cluster beside a larger one, and rows that cannot be loaded, as processes."""

from __future__ import annotations

from functools import partial

from benchmarks.contenders import reset, sync
from benchmarks.loads import FIRST, LARGE, REPEAT
from benchmarks.process import Measured
from benchmarks.rounds import FEW, Log, Results, measured, rotated
from benchmarks.world import Mismatch, World

ALONE, BESIDE = "empty table", "table with another cluster"
CLEAN, INVALID, REFUSED = "no bad rows", "1 % invalid in the source", "1 % refused by PostgreSQL"
# Bad rows are searched among this share of the rows.
BAD_SHARE = 1 / 6
_TABLE = "quper.query_history"
_LARGE_CLUSTER = "large"
_LOAD_ONLY = {"HEALTH_FINDINGS": "false"}
_ENTRIES = "SELECT sum(idx_tup_read)::bigint FROM pg_stat_user_indexes WHERE relid = 'quper.query_history'::regclass"
_OPEN = "SELECT FROM pg_stat_activity WHERE application_name = 'qupersync' AND datname = current_database()"
_BAD = "query_id % 100 = 7"


def second(world: World, rows: int, rounds: int, log: Log) -> Results:
    """Measure first loads of a cluster into an empty table, and beside a larger cluster that was analyzed before.

    Findings are not evaluated: that takes as long for both, and reads rows of the cluster again.
    """
    database = world.create_database("beside")
    world.fill(int(rows * LARGE))
    sync(world, SYNC_BATCH_SIZE="5000", CLUSTER_NAME=_LARGE_CLUSTER, **database)
    world.settle(_TABLE, "beside")
    world.fill(rows)
    results = Results(log)
    for number in range(rounds):
        for title in rotated((ALONE, BESIDE), number):
            if title == ALONE:
                reset(world)
                took = measured(world, partial(sync, world, **_LOAD_ONLY))
                world.check(_TABLE)
            else:
                cluster, before = f"second_{number}", _entries(world)
                took = measured(world, partial(sync, world, CLUSTER_NAME=cluster, **database, **_LOAD_ONLY))
                took["index entries per row"] = (_entries(world) - before) / rows
                world.check(_TABLE, f"cluster = '{cluster}'", "beside")
            results.add(title, FIRST, took)
    return results


def _entries(world: World) -> int:
    """Return the number of index entries read, when all sessions have ended and have reported theirs."""
    with world.cursor("beside") as cursor:
        cursor.execute(_OPEN)
        while cursor.fetchall():
            cursor.execute(_OPEN)
        cursor.execute(_ENTRIES)
        return int(cursor.fetchone()[0])


def bad_rows(world: World, rows: int, rounds: int, log: Log) -> Results:
    """Measure first loads and repeats without and with bad rows of both kinds."""
    rows = int(rows * BAD_SHARE)
    results = Results(log)
    for number in range(min(rounds, FEW)):
        for title in rotated((CLEAN, INVALID, REFUSED), number):
            world.fill(rows)
            bad = _add_bad(world, title)
            for task, options in ((FIRST, ()), (REPEAT, ("--full-refresh",))):
                took = measured(world, partial(_skipping, world, bad, *options))
                results.add(title, task, took)
                world.settle(_TABLE)
    return results


def _add_bad(world: World, title: str) -> int:
    """Empty the target, and let one row of a hundred be bad; return their number."""
    reset(world)
    with world.cursor("quper") as cursor:
        cursor.execute(f"ALTER TABLE {_TABLE} DROP CONSTRAINT IF EXISTS bench")
        if title == REFUSED:
            cursor.execute(f"ALTER TABLE {_TABLE} ADD CONSTRAINT bench CHECK ({_BAD.replace('= 7', '<> 7')})")
    with world.cursor("redshift") as cursor:
        if title == INVALID:
            cursor.execute(f"UPDATE redshift.sys_query_history SET end_time = 'infinity' WHERE {_BAD}")
            cursor.execute("VACUUM ANALYZE redshift.sys_query_history")
        cursor.execute(f"SELECT count(*) FROM redshift.sys_query_history WHERE {_BAD}")
        return int(cursor.fetchone()[0]) if title != CLEAN else 0


def _skipping(world: World, expected: int, *options: str) -> Measured:
    measurement = sync(world, *options)
    (log,) = measurement.output_json["jobs"]
    if log["rows_skipped"] != expected:
        raise Mismatch(f"{log['rows_skipped']} rows were skipped, not {expected}.")
    return measurement
