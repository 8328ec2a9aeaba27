"""Logs have one line per record, with the cause of a failure and without its stack trace, colours or secrets."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import dagster as dg
from qupersync_assets.core.log_format import configure_logs

configure_logs({log_format!r})

@dg.op
def load():
    try:
        raise RuntimeError("the driver's reason")
    except RuntimeError as error:
        raise dg.Failure("No connection to Redshift: hunter2-secret was refused.") from error

@dg.job
def sync():
    load()

sync.execute_in_process(raise_on_error=False)
"""


def run(code: str, tmp_path: Path, **environment: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "REDSHIFT_PASSWORD": "hunter2-secret", "DAGSTER_HOME": "", **environment},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stderr.splitlines()


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_a_failed_step_is_one_line_with_its_cause(tmp_path: Path, log_format: str) -> None:
    lines = run(PROGRAM.format(log_format=log_format), tmp_path)
    assert not any("\x1b[" in line or "hunter2" in line or "Traceback" in line for line in lines)
    failures = [line for line in lines if "STEP_FAILURE" in line]
    assert len(failures) == 1 and "No connection to Redshift: *** was refused." in failures[0]
    assert "driver's reason" not in failures[0]
    if log_format == "json":
        found = [json.loads(line) for line in lines]
        assert {"time", "level", "message", "run_id", "job_name"} <= found[0].keys()
        (failure,) = (entry for entry in found if "STEP_FAILURE" in entry["message"])
        assert (failure["level"], failure["step_key"]) == ("ERROR", "load")
    else:
        assert all(" UTC " in line for line in lines), lines


def test_a_command_of_dagster_has_the_format(tmp_path: Path) -> None:
    script = tmp_path / "command.py"
    script.write_text(
        "import logging, sys\n"
        "from dagster._utils.log import configure_loggers\n"
        "configure_loggers()\n"
        "logging.getLogger('dagster.daemon').warning('%s', sys.argv[1:])\n"
    )
    arguments = [sys.executable, "-m", "qupersync_assets.serve.logged", str(script), "run"]
    done = subprocess.run(
        arguments, env={**os.environ, "LOG_FORMAT": "json"}, capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout)["message"] == "['run']"


OUTAGE = """
import logging
from dagster._utils.log import configure_loggers
from qupersync_assets.core.log_format import configure_logs

configure_logs("json")
configure_loggers()
cause = "\\nStack Trace:\\n  File x\\n\\nThe above exception was caused by:\\nOutage: no answer\\n[SQL: SELECT 1]\\n\\nStack Trace:\\n  y"
for attempt in range(100):
    logging.warning("Retrying, attempt %s: no\\nanswer", attempt)
    for name in ("dagster.daemon.SensorDaemon", "dagster.daemon.AssetDaemon"):
        logging.getLogger(name).error("Failed to add heartbeat: %s", cause)
logging.getLogger("dagster.daemon.AssetDaemon").error("another cause")
logging.getLogger("sqlalchemy.pool").error("once")
"""


def test_in_an_outage_each_cause_is_one_line(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", OUTAGE], cwd=tmp_path, capture_output=True, text=True, check=True)
    of_dagster, others = (
        [json.loads(line)["message"] for line in out.splitlines()] for out in (done.stdout, done.stderr)
    )
    assert of_dagster == ["Failed to add heartbeat: Outage: no answer", "another cause"]
    assert others == ["Retrying, attempt 0: no answer", "once"]


RETRY = """
import logging
from types import SimpleNamespace as Of
from qupersync_assets.core.log_format import StepFailures, configure_logs
from qupersync_assets.core.retries import Attempt

configure_logs("json")
failures = StepFailures("a-run", "a-job")
for step in ("one", "two"):
    logging.getLogger("console").warning("a-job - %s - %s", step, Attempt(1, 2, 5).failure("No connection."))
    for kind in ("STEP_UP_FOR_RETRY", "STEP_FAILURE"):
        error = Of(cls_name="Failure", cause=None, message="Failure: No connection.")
        failures.see(Of(event_type_value=kind, step_key=step, event_specific_data=Of(error=error)))
"""


def test_steps_of_a_run_that_fail_alike_are_one_line_each_time(tmp_path: Path) -> None:
    lines = [json.loads(line) for line in run(RETRY, tmp_path)]
    assert [line["message"].split(" - ", 2)[2] for line in lines] == [
        "one - STEP_UP_FOR_RETRY - No connection.",
        "one - STEP_FAILURE - No connection.",
    ]
    assert lines[0]["run_id"] == "a-run" and lines[0]["step_key"] == "one"
