"""Who is measured, in the order of each round."""

from __future__ import annotations

from benchmarks import floors
from benchmarks.contender import Contender, python
from benchmarks.peers import dlt, ingestr, sling
from benchmarks.process import Measured
from benchmarks.world import World

OURS = "QuperSync"
SEED = "the seed's steps"
READING = "redshift_connector, reading only"
COPYING = "COPY from table to table"
SIZES = (1000, 5000)
SEED_SHARE = 0.1


def all_contenders() -> list[Contender]:
    """Ours, the seed's steps, the peers with their default and their best setting, the floors."""
    return [
        *(ours(size) for size in SIZES),
        seed(),
        dlt("default"),
        dlt("best", backend="connectorx", format="parquet", strategy="upsert"),
        sling("default"),  # which is bulk; neither its batches nor a primary key made it faster
        ingestr("default"),
        ingestr("best", "--page-size", "100000"),
        *(source_expression(size) for size in SIZES),
        copying(),
    ]


def ours(size: int, **variables: str) -> Contender:
    """The asset and its IO manager, with SYNC_BATCH_SIZE as given and perhaps more of the environment."""

    def reset(world: World) -> None:
        with world.cursor("quper") as cursor:
            cursor.execute("TRUNCATE quper.query_history, quper.sync_logs, quper.skipped_rows")

    def load(world: World, repeat: bool) -> Measured:
        arguments = ["--full-refresh"] if repeat else []
        return python(world, "ours", *arguments, SYNC_BATCH_SIZE=str(size), **variables)

    return Contender(OURS, f"pages of {size}", "quper.query_history", reset, load)


def seed() -> Contender:
    """The steps of the service that QuperSync replaces."""

    def load(world: World, repeat: bool) -> Measured:
        rows = str(int(world.rows * SEED_SHARE))
        lenient = {"REDSHIFT_PORT": str(world.lenient), "TARGET_URL": world.urls()[1]}
        return python(world, "seed", rows, **lenient)

    return Contender(
        SEED, "", "bench_seed.queries", lambda world: world.drop("bench_seed"), load, share=SEED_SHARE
    )


def source_expression(size: int) -> Contender:
    """The driver alone."""

    def load(world: World, repeat: bool) -> Measured:
        return python(world, "floors", "read", str(size), REDSHIFT_PORT=str(world.lenient))

    return Contender(READING, f"pages of {size}", None, lambda world: None, load, repeats=False)


def copying() -> Contender:
    """PostgreSQL alone."""

    def reset(world: World) -> None:
        world.drop("floor")
        with world.cursor("quper") as cursor:
            cursor.execute(f"CREATE TABLE {floors.TABLE} ({world.columns()}, PRIMARY KEY (query_id))")

    def load(world: World, repeat: bool) -> Measured:
        return python(world, "floors", "copy", **world.dsns())

    return Contender(COPYING, "with key", floors.TABLE, reset, load, repeats=False)
