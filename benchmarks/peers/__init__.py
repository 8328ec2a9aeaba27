"""Other tools, each in a virtual environment under `.bench/`, with telemetry disabled.

They read the source through the lenient gateway, because they query parts of PostgreSQL's catalog that
Redshift lacks, and merge by the key `query_id` into a table that they create.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import venv
from pathlib import Path
from typing import Any

from benchmarks.contender import PROJECT, Contender
from benchmarks.process import Measured, run
from benchmarks.world import SOURCE, World

HERE = Path(__file__).parent
HOME = PROJECT / ".bench"


def ingestr(setting: str, *options: str) -> Contender:
    """Build ingestr, a Go program."""

    def load(world: World, repeat: bool) -> Measured:
        source, target = world.urls()
        command: list[str | Path] = [
            environment_of("ingestr") / "bin" / "ingestr", "ingest", "--yes", "--progress", "log",
            "--source-uri", source, "--source-table", SOURCE,
            "--dest-uri", target, "--dest-table", "bench_ingestr.queries",
            "--incremental-strategy", "merge", "--primary-key", "query_id", *options,
        ]  # fmt: skip
        return run(command, {"TELEMETRY_DISABLED": "true", "DISABLE_TELEMETRY": "true"}, HOME)

    return _contender("ingestr", setting, load)


def sling(setting: str, **options: Any) -> Contender:
    """Build Sling, a Go program, without its Python wrapper; `options` are its target options."""

    def load(world: World, repeat: bool) -> Measured:
        source, target = world.urls()
        (program,) = environment_of("sling").glob("lib/*/site-packages/sling_linux_amd64/bin/sling-*")
        command: list[str | Path] = [
            program, "run", "--src-conn", source, "--src-stream", SOURCE,
            "--tgt-conn", target, "--tgt-object", "bench_sling.queries",
            "--mode", "incremental", "--primary-key", "query_id",
            "--tgt-options", json.dumps(options),
        ]  # fmt: skip
        return run(command, {"SLING_DISABLE_TELEMETRY": "TRUE", "SLING_HOME_DIR": str(HOME / "sling")}, HOME)

    return _contender("sling", setting, load)


def dlt(setting: str, **options: Any) -> Contender:
    """Build dlt, a Python library; for `options` see dlt_load.py."""
    folder = HOME / "dlt-pipelines"

    def load(world: World, repeat: bool) -> Measured:
        source, target = world.urls()
        if not repeat:
            shutil.rmtree(folder, ignore_errors=True)
        argument = {
            "source": source.replace("postgresql:", "postgresql+psycopg2:"),
            "target": target,
            "relation": SOURCE,
            "schema": "bench_dlt",
            "folder": str(folder),
            **dict.fromkeys(("backend", "chunk", "format", "strategy")),
            **options,
        }
        command: list[str | Path] = [
            environment_of("dlt") / "bin" / "python",
            HERE / "dlt_load.py",
            json.dumps(argument),
        ]
        return run(command, {"RUNTIME__DLTHUB_TELEMETRY": "false"}, HOME)

    return _contender("dlt", setting, load)


def _contender(peer: str, setting: str, load: Any) -> Contender:
    schema = f"bench_{peer}"
    return Contender(peer, setting, f"{schema}.queries", lambda world: world.drop(schema), load)


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
