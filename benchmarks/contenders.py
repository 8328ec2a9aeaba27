"""Who is measured: what each does to bring the source's rows to a table of its own, merged by the key."""

from __future__ import annotations

import subprocess
import sys
import venv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks import floors
from benchmarks.process import Measured, run
from benchmarks.world import SOURCE, World

HERE = Path(__file__).parent
PROJECT = HERE.parent
HOME = PROJECT / ".bench"

Load = Callable[[World, bool], Measured]


@dataclass(frozen=True)
class Contender:
    """A pipeline with one setting.

    Attributes:
        name: what it is called in the tables, e.g. `ours, pages of 1000`.
        table: where its rows go; None if it writes none.
        reset: makes the target as it is before a first load.
        load: brings all rows of the source to the table; told whether they are all there already.
        repeats: whether a repeat is worth measuring.
    """

    name: str
    table: str | None
    reset: Callable[[World], None]
    load: Load
    repeats: bool = True


def python(world: World, module: str, *arguments: str, **variables: str) -> Measured:
    """Run a module of this package with the product's environment."""
    return run(
        [sys.executable, "-m", f"benchmarks.{module}", *arguments], world.environment | variables, PROJECT
    )


def ours(size: int) -> Contender:
    """The asset and its IO manager, with SYNC_BATCH_SIZE as given."""

    def reset(world: World) -> None:
        with world.cursor("quper") as cursor:
            cursor.execute("TRUNCATE quper.query_history, quper.sync_logs, quper.skipped_rows")

    def load(world: World, repeat: bool) -> Measured:
        arguments = ["--full-refresh"] if repeat else []
        return python(world, "ours", *arguments, SYNC_BATCH_SIZE=str(size))

    return Contender(f"ours, pages of {size}", "quper.query_history", reset, load)


def reading(size: int) -> Contender:
    """The driver alone."""
    return Contender(
        f"redshift_connector, reading only, pages of {size}",
        None,
        lambda world: None,
        lambda world, repeat: python(world, "floors", "read", str(size), REDSHIFT_PORT=str(world.lenient)),
        repeats=False,
    )


def copying() -> Contender:
    """PostgreSQL alone."""

    def reset(world: World) -> None:
        with world.cursor("quper") as cursor:
            cursor.execute(
                "CREATE SCHEMA IF NOT EXISTS floor; DROP TABLE IF EXISTS floor.queries;"
                f"CREATE TABLE {floors.TABLE} ({world.columns()}, PRIMARY KEY (query_id))"
            )

    def load(world: World, repeat: bool) -> Measured:
        return python(world, "floors", "copy", **world.dsns())

    return Contender("COPY from table to table, with key", floors.TABLE, reset, load, repeats=False)


def ingestr(name: str, *options: str) -> Contender:
    """ingestr's merge, a Go program."""
    table = "bench_ingestr.queries"

    def load(world: World, repeat: bool) -> Measured:
        source, target = world.urls()
        command: list[str | Path] = [
            environment_of("ingestr") / "bin" / "ingestr", "ingest", "--yes", "--progress", "log",
            "--source-uri", source, "--source-table", SOURCE, "--dest-uri", target, "--dest-table", table,
            "--incremental-strategy", "merge", "--primary-key", "query_id", *options,
        ]  # fmt: skip
        return run(command, {"TELEMETRY_DISABLED": "true", "DISABLE_TELEMETRY": "true"}, HOME)

    return Contender(f"ingestr 0.15.9, {name}", table, lambda world: world.drop("bench_ingestr"), load)


def environment_of(peer: str) -> Path:
    """The virtual environment of a peer, installed as `peers/PEER.txt` says if it is not yet."""
    folder, wanted = HOME / peer, (HERE / "peers" / f"{peer}.txt").read_text()
    installed = folder / "installed.txt"
    if not installed.exists() or installed.read_text() != wanted:
        print(f"Installing {peer} into {folder}", flush=True)
        venv.create(folder, clear=True, with_pip=True)
        requirements = HERE / "peers" / f"{peer}.txt"
        pip: list[str | Path] = [folder / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "-r", requirements], check=True)
        installed.write_text(wanted)
    return folder


def all_contenders() -> list[Contender]:
    """In the order of each round."""
    return [
        ours(1000),
        ours(5000),
        ingestr("default"),
        reading(1000),
        reading(5000),
        copying(),
    ]
