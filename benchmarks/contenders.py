"""The measured pipelines, in the order of the first round."""

from __future__ import annotations

import sys
import sysconfig
from pathlib import Path

from benchmarks.contender import PROJECT, Contender
from benchmarks.peers import dlt, ingestr, sling
from benchmarks.process import Measured, run
from benchmarks.world import World
from qupersync_assets.sync_jobs.query_history import SPEC

QUPERSYNC = "QuperSync"
SEED = "QuperSync's predecessor"
SIZES = (1000, 5000)
PROGRAM = Path(sysconfig.get_path("scripts")) / "qupersync"


def loaders(incremental: bool = False) -> list[Contender]:
    """Return QuperSync and the other tools, with default and best settings; `incremental` ones read only new rows."""
    return [
        *(qupersync(size) for size in (SIZES[:1] if incremental else SIZES)),  # they have one table
        ingestr("default", incremental),
        ingestr("best", incremental, "--page-size", "100000"),
        dlt("default", incremental),
        dlt("best", incremental, backend="connectorx", format="parquet", strategy="upsert"),
        sling("default", incremental),  # bulk mode; neither its batches nor a primary key is faster
    ]


def qupersync(size: int, **variables: str) -> Contender:
    """Build the command of a user without a Dagster instance, for a SYNC_BATCH_SIZE and more variables."""

    def load(world: World, everything: bool) -> Measured:
        return sync(world, *(["--full-refresh"] if everything else []), SYNC_BATCH_SIZE=str(size), **variables)

    return Contender(QUPERSYNC, f"pages of {size}", "quper.query_history", reset, load)


def reset(world: World) -> None:
    """Empty the tables of QuperSync's job."""
    with world.cursor("quper") as cursor:
        cursor.execute("TRUNCATE quper.query_history, quper.sync_logs, quper.skipped_rows")


def sync(world: World, *options: str, job: str = SPEC.sync_job_id, **variables: str) -> Measured:
    """Run `qupersync sync JOB` in a folder without a Dagster instance."""
    measured = run([PROGRAM, "sync", job, "--json", *options], world.environment | variables, world.folder)
    (log,) = measured.output_json["jobs"]
    measured.inner_seconds = log["duration_ms"] / 1000
    return measured


def seed() -> Contender:
    """Build the steps of the service that QuperSync replaces."""

    def load(world: World, everything: bool) -> Measured:
        return run([sys.executable, "-m", "benchmarks.seed", str(world.rows)], seed_environment(world), PROJECT)

    return Contender(SEED, "", "bench_seed.queries", lambda world: world.drop("bench_seed"), load)


def seed_environment(world: World) -> dict[str, str]:
    """Return the variables of the predecessor."""
    return world.environment | {"REDSHIFT_PORT": str(world.lenient), "TARGET_URL": world.urls()[1]}
