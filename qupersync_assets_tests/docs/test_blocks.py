"""Runs every block of code in the documents, in order, as a user who follows them."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil
import psycopg2
import pytest
import redshift_connector
from dotenv import dotenv_values

from qupersync_assets.settings import variables
from qupersync_assets.spec.redshift_views import ViewFacts
from qupersync_assets_tests.docs.conftest import Reader
from qupersync_assets_tests.support.doc_blocks import DOCUMENTS, Block, blocks, commands

TIMEOUT = 120
# Commands that run until Ctrl-C, and the words that show that they are up.
SERVING = {"make demo": "Dagster UI:", "make up": "QuperSync is up", ".venv/bin/qupersync metrics": "Metrics: http"}
# Commands that take minutes, with variables that let them do less. The tests and `make lint` run completely anyway.
SHORTER = {
    "make test": {"PYTEST_ADDOPTS": "qupersync_assets_tests/unit/cli/test_arguments.py"},
    "make lint": {"MAKEFLAGS": "--dry-run"},
}
# Commands of programs that a developer's machine may lack: only their syntax is checked.
NOT_RUN = {"docker", "export", "helm", "kubectl", "pip", "psql", "qupersync", "sudo"}
# Commands after which the user edits `.env`.
EDITED = {"make .env"}
# Generated; test_reader_queries.py runs them.
EXAMPLE = "sql example"
TAGS = {"sh", "python", "diff", "sql", EXAMPLE, "sql redshift", "env", "console", "json", "json mcp", "mermaid", "yaml"}
WITH_BLOCKS = [document for document in DOCUMENTS if blocks(document)]

# A component, or a part of dagster.yaml.
LOAD_YAML = """
import pathlib, sys, tempfile, yaml
from dagster import DagsterInstance
from qupersync_assets import QuperSyncComponent
found = yaml.safe_load(sys.argv[1])
if "attributes" in found:
    QuperSyncComponent.resolve_from_dict(found["attributes"]).build_defs(None).get_repository_def()
else:
    with tempfile.TemporaryDirectory() as home:
        pathlib.Path(home, "dagster.yaml").write_text(sys.argv[1])
        with DagsterInstance.from_config(home) as instance:
            for part, given in found.items():
                assert type(getattr(instance, part)).__name__ == given["class"]
"""
LOAD_SETTINGS = "from qupersync_assets.settings import Settings; Settings.load()"


@pytest.mark.parametrize("document", WITH_BLOCKS, ids=lambda path: path.name)
def test_every_block_runs(document: Path, reader: Reader) -> None:
    for block in blocks(document):
        assert block.tag in TAGS, f"{document.name}:{block.line}: tag one of {', '.join(sorted(TAGS))}"
        try:
            run(block, reader)
        except AssertionError as error:
            raise AssertionError(f"{document.name}:{block.line}: {error}") from error


def run(block: Block, reader: Reader) -> None:
    match block.tag:
        case "sh":
            run_shell(block.text, reader)
        case "console":
            assert {line.split()[0] for line in commands(block.text)} <= NOT_RUN
            check(["bash", "-n", "-c", block.text], reader)
        case "python":
            run_python(block, reader)
        case "diff":
            apply_diff(block, reader)
        case "env":
            # The source is that of the block; the target that of the user.
            target = {name: value for name, value in reader.settings.items() if name.startswith("POSTGRES_")}
            shown = dotenv_values(stream=io.StringIO(block.text))
            given = target | {name: value or "" for name, value in shown.items()}
            check([sys.executable, "-c", LOAD_SETTINGS], reader, given)
        case "json":  # the facts of a view
            for facts in json.loads(block.text).values():
                assert set(ViewFacts.__required_keys__) == facts.keys()
        case "json mcp":  # the configuration of an MCP client
            for server in json.loads(block.text)["mcpServers"].values():
                assert server["command"] == "qupersync" and server["env"].keys() <= variables().keys()
                check([sys.executable, "-m", "qupersync_assets.cli", *server["args"], "--help"], reader)
        case "yaml":
            broker = {"CELERY_BROKER_URL": "redis://127.0.0.1:1"}
            check([sys.executable, "-c", LOAD_YAML, block.text], reader, reader.settings | broker)
        case "sql":
            with closing(psycopg2.connect(**login(reader, "POSTGRES"))) as target, target:
                target.cursor().execute(block.text)
        case "sql redshift":
            with closing(redshift_connector.connect(**login(reader, "REDSHIFT"), ssl=False)) as source:
                code = " ".join(line.partition("--")[0] for line in block.text.splitlines())
                for statement in filter(str.strip, code.split(";")):
                    source.cursor().execute(statement)


def login(reader: Reader, side: str) -> dict[str, Any]:
    names = ("host", "port", "database", "user", "password")
    values = {name: reader.settings[f"{side}_{name.upper()}"] for name in names}
    return {**values, "port": int(values["port"])}


def apply_diff(block: Block, reader: Reader) -> None:
    """Change the file that the document names; the lines that a hunk replaces occur once."""
    assert block.file, "the sentence before a diff names the file"
    file = reader.folder / block.file
    text = file.read_text("utf-8")
    for hunk in re.split(r"^@@.*\n", block.text, flags=re.MULTILINE):
        lines = hunk.splitlines(keepends=True)
        old = "".join(line[1:] for line in lines if line[0] in " -")
        new = "".join(line[1:] for line in lines if line[0] in " +")
        if text.count(new) == 1 and old not in text:
            continue  # a developer has followed the document
        assert text.count(old) == 1, f"{block.file} does not contain once:\n{old}"
        text = text.replace(old, new)
    file.write_text(text, "utf-8")


def run_python(block: Block, reader: Reader) -> None:
    """Execute a block, from the file that it is written to if the document names one."""
    file = reader.folder / (block.file or "block.py")
    # A developer may have followed the document in this project.
    assert not file.exists() or file.read_text("utf-8") == block.text, f"{block.file} exists already"
    file.write_text(block.text, "utf-8")
    check([sys.executable, "-c", f"import runpy; runpy.run_path({str(file)!r})"], reader)


def run_shell(text: str, reader: Reader) -> None:
    """Run the lines of a block, those that serve and those that are shortened apart from the others."""
    pending: list[str] = []
    for command in commands(text):
        if command in SERVING or command in SHORTER or command in EDITED:
            run_lines(pending, reader)
            pending = []
            run_alone(command, reader)
        else:
            pending.append(command)
    run_lines(pending, reader)


def run_alone(command: str, reader: Reader) -> None:
    if command in EDITED:
        check(["bash", "-c", command], reader)
        reader.fill_in()
    elif command not in reader.done:  # once is enough for all documents
        if command in SERVING:
            serve(command, reader)
        else:
            check(["bash", "-c", command], reader, SHORTER[command])
        reader.done.add(command)


def run_lines(lines: list[str], reader: Reader) -> None:
    if lines:
        check(["bash", "-euo", "pipefail", "-c", "\n".join(lines)], reader)


def check(command: list[str], reader: Reader, more: dict[str, str] | None = None) -> None:
    """Run a command in the copy; it has to succeed."""
    done = subprocess.run(
        command,
        cwd=reader.folder,
        env=reader.environment | (more or {}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TIMEOUT,
    )
    assert done.returncode == 0, f"{command[-1]}\n{done.stdout}"


def serve(command: str, reader: Reader) -> None:
    """Start a command, wait until it says that it is up, press Ctrl-C; it has to end with exit code 0."""
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(
            ["bash", "-c", command],
            cwd=reader.folder,
            env=reader.environment,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        try:
            deadline = time.monotonic() + TIMEOUT
            while SERVING[command] not in said(output.fileno()):
                assert process.poll() is None, f"{command}\n{said(output.fileno())}"
                assert time.monotonic() < deadline, f"{command} is not up\n{said(output.fileno())}"
                time.sleep(0.2)
            program(process.pid).send_signal(signal.SIGINT)
            assert process.wait(TIMEOUT) == 0, f"{command}\n{said(output.fileno())}"
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
                process.wait(TIMEOUT)


def said(descriptor: int) -> str:
    return os.pread(descriptor, 1 << 20, 0).decode(errors="replace")


def program(pid: int) -> psutil.Process:
    """Return the Python process that bash, and perhaps make, have started."""
    process = psutil.Process(pid)
    while not Path(process.exe()).name.startswith("python"):
        (process,) = process.children()
    return process
