"""Other tools, each in a virtual environment under `.bench/`, with telemetry disabled.

They read the source through the lenient gateway, because they query parts of PostgreSQL's catalog that
Redshift lacks, and merge by the key `query_id` into a table that they create.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import venv
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.contender import PROJECT, Contender
from benchmarks.process import Measured, run
from benchmarks.world import SOURCE, World

HERE = Path(__file__).parent
HOME = PROJECT / ".bench"
# Rows are new by this column; as QuperSync, best settings read rows of the last hour.
CURSOR, LOOKBACK = "start_time", timedelta(hours=1)
# What is newer than the versions that are measured.
NOT_MEASURED = """\
On 2026-11-27 the newest ingestr was 1.1.76 and the newest Sling was 1.6.5. Their packages download the program from
GitHub when they start, which needs a network that the machine of the benchmark does not have. Measured are the newest
versions whose packages contain the program. The measured dlt is the newest."""


def ingestr(setting: str, incremental: bool, *options: str) -> Contender:
    """Build ingestr, a Go program. The best setting says since when rows are new, else it reads all."""
    options += ("--incremental-key", CURSOR) if incremental else ()

    def load(world: World, everything: bool, schema: str) -> Measured:
        source, target = world.urls()
        command: list[str | Path] = [
            environment_of("ingestr") / "bin" / "ingestr", "ingest", "--yes", "--progress", "log",
            "--source-uri", source, "--source-table", SOURCE,
            "--dest-uri", target, "--dest-table", f"{schema}.queries",
            "--incremental-strategy", "merge", "--primary-key", "query_id", *options,
        ]  # fmt: skip
        if incremental and setting == "best" and not everything:
            command += ["--interval-start", f"{datetime.now(UTC) - LOOKBACK:%Y-%m-%dT%H:%M:%SZ}"]
        return run(command, {"TELEMETRY_DISABLED": "true", "DISABLE_TELEMETRY": "true"}, HOME)

    return _contender("ingestr", setting, load, once=incremental and setting == "default")


def sling(setting: str, incremental: bool, **options: Any) -> Contender:
    """Build Sling, a Go program, without its Python wrapper; `options` are its target options."""

    def load(world: World, everything: bool, schema: str) -> Measured:
        source, target = world.urls()
        (program,) = environment_of("sling").glob("lib/*/site-packages/sling_linux_amd64/bin/sling-*")
        command: list[str | Path] = [
            program, "run", "--src-conn", source, "--src-stream", SOURCE,
            "--tgt-conn", target, "--tgt-object", f"{schema}.queries",
            "--mode", "incremental", "--primary-key", "query_id",
            *(["--update-key", CURSOR] if incremental else []),
            "--tgt-options", json.dumps(options),
        ]  # fmt: skip
        return run(command, {"SLING_DISABLE_TELEMETRY": "TRUE", "SLING_HOME_DIR": str(HOME / "sling")}, HOME)

    return _contender("sling", setting, load)


def dlt(setting: str, incremental: bool, **options: Any) -> Contender:
    """Build dlt, a Python library; for `options` see dlt_load.py."""
    folder = HOME / "dlt-pipelines" / setting

    def load(world: World, everything: bool, **options: Any) -> Measured:
        source, target = world.urls()
        argument = {
            "source": source.replace("postgresql:", "postgresql+psycopg2:"),
            "target": target,
            "relation": SOURCE,
            "schema": f"bench_dlt_{setting}",
            "folder": str(folder),
            "cursor": CURSOR if incremental else None,
            **dict.fromkeys(("backend", "format", "strategy", "ids")),
            **options,
        }
        program = environment_of("dlt") / "bin" / "python"
        return run([program, HERE / "dlt_load.py", json.dumps(argument)], {"RUNTIME__DLTHUB_TELEMETRY": "false"}, HOME)

    def reset(world: World) -> None:
        world.drop(f"bench_dlt_{setting}")
        shutil.rmtree(folder, ignore_errors=True)

    table = f"bench_dlt_{setting}.queries"
    # The default reads 7,000 rows a second.
    prepare = partial(load, backend="pyarrow", format="parquet", ids=True)
    return Contender(
        "dlt",
        setting,
        table,
        reset,
        partial(load, **options),
        None if options else prepare,
        not (options or incremental),
    )


def _contender(peer: str, setting: str, load: Any, once: bool = False) -> Contender:
    schema = f"bench_{peer}_{setting}"
    return Contender(
        peer, setting, f"{schema}.queries", lambda world: world.drop(schema), partial(load, schema=schema), None, once
    )


def versions() -> dict[str, str]:
    """Return the pinned version of each tool."""
    lines = [(HERE / f"{peer}.txt").read_text().split("\n")[0] for peer in ("dlt", "ingestr", "sling")]
    return {name.partition("[")[0]: version for name, _, version in (line.partition("==") for line in lines)}


def environment_of(peer: str) -> Path:
    """Return the virtual environment of a peer; install it from PEER.txt if needed."""
    folder, requirements = HOME / peer, HERE / f"{peer}.txt"
    installed = folder / "installed.txt"
    if not installed.exists() or installed.read_text() != requirements.read_text():
        print(f"Installing {peer} into {folder}", flush=True)
        venv.create(folder, clear=True, with_pip=True)
        pip: list[str | Path] = [folder / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "-r", requirements], check=True)
        shutil.copyfile(requirements, installed)
    return folder
