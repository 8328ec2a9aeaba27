"""The measured pipelines, in the order of each round."""

from __future__ import annotations

from benchmarks import floors
from benchmarks.contender import Contender, python
from benchmarks.peers import dlt, ingestr, sling
from benchmarks.process import Measured
from benchmarks.world import World

QUPERSYNC = "QuperSync"
SEED = "QuperSync's predecessor"
READ = "redshift_connector, reading only"
COPY = "COPY from table to table"
SIZES = (1000, 5000)
SEED_SHARE = 0.1


def all_contenders() -> list[Contender]:
    """Return QuperSync, QuperSync's predecessor, the other tools (default and best settings), the lower bounds."""
    return [
        *(qupersync(size) for size in SIZES),
        seed(),
        dlt("default"),
        dlt("best", backend="connectorx", format="parquet", strategy="upsert"),
        sling("default"),  # bulk mode; neither its batches nor a primary key is faster
        ingestr("default"),
        ingestr("best", "--page-size", "100000"),
        *(read_only(size) for size in SIZES),
        copy(),
    ]


def qupersync(size: int, **variables: str) -> Contender:
    """Build the asset with its IO manager, for a SYNC_BATCH_SIZE and additional environment variables."""

    def reset(world: World) -> None:
        with world.cursor("quper") as cursor:
            cursor.execute("TRUNCATE quper.query_history, quper.sync_logs, quper.skipped_rows")

    def load(world: World, repeat: bool) -> Measured:
        arguments = ["--full-refresh"] if repeat else []
        return python(world, "qupersync_load", *arguments, SYNC_BATCH_SIZE=str(size), **variables)

    return Contender(QUPERSYNC, f"pages of {size}", "quper.query_history", reset, load)


def seed() -> Contender:
    """Build the steps of the service that QuperSync replaces."""

    def load(world: World, repeat: bool) -> Measured:
        rows = str(int(world.rows * SEED_SHARE))
        lenient = {"REDSHIFT_PORT": str(world.lenient), "TARGET_URL": world.urls()[1]}
        return python(world, "seed", rows, **lenient)

    return Contender(SEED, "", "bench_seed.queries", lambda world: world.drop("bench_seed"), load, share=SEED_SHARE)


def read_only(size: int) -> Contender:
    """Build the driver alone."""

    def load(world: World, repeat: bool) -> Measured:
        return python(world, "floors", "read", str(size), REDSHIFT_PORT=str(world.lenient))

    return Contender(READ, f"pages of {size}", None, lambda world: None, load, repeats=False)


def copy() -> Contender:
    """Build PostgreSQL alone."""

    def reset(world: World) -> None:
        world.drop("floor")
        with world.cursor("quper") as cursor:
            cursor.execute(f"CREATE TABLE {floors.TABLE} ({world.columns()}, PRIMARY KEY (query_id))")

    def load(world: World, repeat: bool) -> Measured:
        return python(world, "floors", "copy", **world.dsns())

    return Contender(COPY, "with key", floors.TABLE, reset, load, repeats=False)
