"""The run server: runs are forks of it, end with it, and are known to the launcher; its socket is for one user."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from uuid import uuid4

import dagster as dg
import psutil
import pytest
from dagster._core.definitions.reconstruct import ReconstructableRepository
from dagster._core.launcher import WorkerStatus
from dagster._core.test_utils import create_run_for_test

from qupersync_assets.defs.run_health import why_failed
from qupersync_assets.serve import supervisor
from qupersync_assets.serve.run_server_socket import NAME, RunServerGone, RunServerSilent, ask, ask_for_life, connected
from qupersync_assets.serve.supervisor import Command, Question, Supervisor
from qupersync_assets_tests.support.demo_process import has_ended, until

Status = dg.DagsterRunStatus
DAGSTER_YAML = """
telemetry: { enabled: false }
run_launcher: { module: qupersync_assets.serve.run_launcher, class: ForkingRunLauncher }
compute_logs: { module: qupersync_assets.serve.step_output, class: StepOutput }
"""
# The code of the runs is in a folder of its own, where it can change.
JOB = """
import os, signal, time
import dagster as dg
from qupersync_assets.defs.step_timeout import with_step_timeout

VERSION = 1

@dg.op
def act(context: dg.OpExecutionContext) -> None:
    mode = os.environ["DAGSTER_HOME"] + "/" + context.run.tags["mode"]
    print("written by", VERSION, flush=True)
    if mode.endswith("stubborn"):
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    while mode.endswith(("waits", "stubborn")) and not os.path.exists(mode + ".end"):
        time.sleep(0.05)

@dg.job(executor_def=dg.in_process_executor)
def acting() -> None:
    act()

def behave(name: str):
    @dg.op(name=name)
    def step(context: dg.OpExecutionContext) -> None:
        home = os.environ["DAGSTER_HOME"]
        print(name, os.getpid(), flush=True)
        if context.run.tags["mode"] == "steps wait":
            time.sleep(1000)
        if name == "stopped":
            os.kill(os.getpid(), signal.SIGSTOP)
        if name == "crashed":
            os._exit(3)
        if name == "failed":
            raise dg.Failure("as asked")
        if name.startswith("slow"):
            time.sleep(1.5)
    return step

STEPS = [behave(name) for name in ("stopped", "crashed", "failed", "slow_1", "slow_2", *(f"good_{n}" for n in range(6)))]

@dg.job(executor_def=with_step_timeout(dg.multiprocess_executor, 4).configured({"max_concurrent": 4}))
def stepping() -> None:
    for step in STEPS:
        step()
"""
SERVER = """
import sys
sys.path.insert(0, sys.argv.pop(1))
from qupersync_assets import run_server
run_server.PRELOADED = "acting_job"
run_server.KILL_SECONDS = 2.0
sys.exit(run_server.main())
"""


class Server:
    """A run server with an instance in a folder, and runs that it forks."""

    def __init__(self, folder: Path, instance: dg.DagsterInstance) -> None:
        self.folder = folder
        self.instance = instance
        self.log = folder / "log"
        self.start()

    def start(self) -> None:
        environment = {**os.environ, "DAGSTER_HOME": str(self.folder)}
        with self.log.open("a") as log:
            command = [sys.executable, "-c", SERVER, str(self.folder)]
            self.process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        self.pid = self.process.pid
        until(lambda: self.is_up() or self.process.poll() is not None, 60)
        assert self.process.poll() is None, self.log.read_text()

    def is_up(self) -> bool:
        try:
            with connected(self.folder / "storage") as server:
                return ask(server, "status", str(uuid4()))["found"] is False
        except RunServerGone:
            return False

    def launch(self, mode: str, job: str = "acting") -> str:
        repository = ReconstructableRepository.for_file(str(self.folder / "acting_job.py"), job, str(self.folder))
        origin = repository.get_reconstructable_job(job).get_python_origin()
        run = create_run_for_test(self.instance, job_name=job, job_code_origin=origin, tags={"mode": mode})
        self.instance.launch_run(run.run_id, None)  # type: ignore[arg-type]  # a fork needs no workspace
        return run.run_id

    def start_run(self, mode: str) -> tuple[str, psutil.Process]:
        """Launch a run, and wait for its output; return its process too."""
        before = set(psutil.Process(self.pid).children())
        run_id = self.launch(mode)
        until(lambda: self.output(run_id), 60, 0.05)
        (process,) = set(psutil.Process(self.pid).children()) - before
        return run_id, process

    def steps(self, run_id: str) -> dict[str, int]:
        """Return the processes of the steps that have begun."""
        return {name: int(pid) for name, pid in map(str.split, self.output(run_id).splitlines())}

    def output(self, run_id: str) -> str:
        captured = self.instance.all_logs(run_id, of_type=dg.DagsterEventType.LOGS_CAPTURED)
        keys = [entry.dagster_event.logs_captured_data.file_key for entry in captured if entry.dagster_event]
        logs = [self.instance.compute_log_manager.get_log_data([run_id, "compute_logs", key]) for key in keys]
        return "".join((log.stdout or b"").decode() for log in logs)

    def run(self, run_id: str) -> dg.DagsterRun:
        run = self.instance.get_run_by_id(run_id)
        assert run is not None
        return run

    def ends(self, run_id: str, status: dg.DagsterRunStatus) -> None:
        until(lambda: self.run(run_id).is_finished, 60, 0.05)
        assert self.run(run_id).status == status, self.log.read_text()

    def health(self, run_id: str) -> WorkerStatus:
        return self.instance.run_launcher.check_run_worker_health(self.run(run_id)).status


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("home")
    (folder / "dagster.yaml").write_text(DAGSTER_YAML)
    (folder / "acting_job.py").write_text(JOB)
    with pytest.MonkeyPatch.context() as patch, dg.DagsterInstance.from_config(str(folder)) as instance:
        patch.setenv("DAGSTER_HOME", str(folder))
        running = Server(folder, instance)
        try:
            yield running
        finally:
            running.process.terminate()
            assert running.process.wait(30) == 0, running.log.read_text()


def test_a_run_is_a_fork_and_the_ui_has_its_output(server: Server) -> None:
    run_id, process = server.start_run("waits")
    assert server.health(run_id) == WorkerStatus.RUNNING
    assert process.cmdline() == psutil.Process(server.process.pid).cmdline()
    (server.folder / "waits.end").touch()
    server.ends(run_id, Status.SUCCESS)
    assert server.output(run_id) == "written by 1\n"
    until(lambda: "written by 1" in server.log.read_text(), 10)  # also in the log of the service
    (server.folder / "waits.end").unlink()


def test_the_socket_is_for_its_user_and_starts_nothing_but_runs_of_the_instance(server: Server) -> None:
    assert stat.S_IMODE((server.folder / "storage" / NAME).stat().st_mode) == 0o600
    finished = server.launch("quick")
    server.ends(finished, Status.SUCCESS)
    events = len(server.instance.all_logs(finished))
    for run_id in (str(uuid4()), finished, "no-run"):
        with connected(server.folder / "storage") as connection, suppress(RunServerSilent):
            ask(connection, "launch", run_id)
    server.ends(server.launch("quick"), Status.SUCCESS)
    until(lambda: not psutil.Process(server.process.pid).children(), 30)
    assert len(server.instance.all_logs(finished)) == events


@pytest.mark.parametrize("mode", ["waits", "stubborn"])
def test_a_terminated_run_is_canceled(server: Server, mode: str) -> None:
    """Also one that ignores signals: it is killed."""
    run_id, process = server.start_run(mode)
    assert server.instance.run_launcher.terminate(run_id)
    server.ends(run_id, Status.CANCELED)
    until(lambda: has_ended(process), 20)
    assert not server.instance.run_launcher.terminate(run_id)


def test_a_killed_run_has_failed_at_once(server: Server) -> None:
    run_id, process = server.start_run("waits")
    process.kill()
    server.ends(run_id, Status.FAILURE)
    assert server.health(run_id) == WorkerStatus.FAILED
    reason = why_failed(server.instance, server.run(run_id))
    assert reason == "The process of the run was terminated by signal 9 (SIGKILL)."


def test_steps_share_few_processes_and_no_fault(server: Server) -> None:
    """One that is stopped, one that dies and one that fails cost the others nothing, not even their turn."""
    run_id = server.launch("steps", "stepping")
    server.ends(run_id, Status.FAILURE)
    kinds = {dg.DagsterEventType.STEP_SUCCESS, dg.DagsterEventType.STEP_FAILURE}
    ended = {entry.step_key: entry for entry in server.instance.all_logs(run_id, of_type=kinds)}
    bad = {"stopped", "crashed", "failed"}
    assert {key for key, entry in ended.items() if entry.dagster_event and entry.dagster_event.is_step_failure} == bad
    assert all(ended["stopped"].timestamp > entry.timestamp for key, entry in ended.items() if key != "stopped")
    processes = server.steps(run_id)
    assert len(processes) == len(ended) > len({*processes.values()})
    for name in bad:  # a process is not used again after a fault
        assert [other for other, pid in processes.items() if pid == processes[name]][-1] == name


def test_terminate_interrupts_all_steps(server: Server) -> None:
    run_id = server.launch("steps wait", "stepping")
    until(lambda: len(server.steps(run_id)) == 4, 30)  # more than processors: steps wait for a second only
    assert server.instance.run_launcher.terminate(run_id)
    server.ends(run_id, Status.CANCELED)
    until(lambda: not any(psutil.pid_exists(pid) for pid in server.steps(run_id).values()), 20)


def test_no_step_outlives_its_run(server: Server) -> None:
    run_id = server.launch("steps wait", "stepping")
    until(lambda: server.steps(run_id), 30)
    (process,) = psutil.Process(server.process.pid).children()
    process.kill()
    server.ends(run_id, Status.FAILURE)
    until(lambda: not any(psutil.pid_exists(pid) for pid in server.steps(run_id).values()), 20)


def test_changed_code_is_imported_and_runs_go_on(server: Server) -> None:
    old, process = server.start_run("waits")
    (server.folder / "acting_job.py").write_text(JOB.replace("VERSION = 1", "VERSION = 2  # longer"))
    new = server.launch("quick")
    server.ends(new, Status.SUCCESS)
    assert server.output(new) == "written by 2\n"
    assert server.health(old) == WorkerStatus.RUNNING and process.is_running()
    server.instance.run_launcher.terminate(old)
    server.ends(old, Status.CANCELED)
    assert server.log.read_text().count("The code has changed") == 1


def test_broken_code_is_an_error_of_the_run(server: Server) -> None:
    (server.folder / "acting_job.py").write_text("import no_such_module")
    server.ends(run_id := server.launch("quick"), Status.FAILURE)
    assert "Could not load job definition" in "".join(str(e.dagster_event) for e in server.instance.all_logs(run_id))
    (server.folder / "acting_job.py").write_text(JOB)
    server.ends(server.launch("quick"), Status.SUCCESS)


def test_no_more_young_runs_than_processors(server: Server) -> None:
    processors = len(os.sched_getaffinity(0))
    runs = [server.launch("waits") for _ in range(processors + 1)]
    until(lambda: sum(bool(server.output(run)) for run in runs) == processors, 30)
    assert [server.health(run) for run in runs] == [WorkerStatus.RUNNING] * len(runs)
    assert server.run(runs[-1]).status == Status.STARTING
    server.instance.run_launcher.terminate(runs[0])
    until(lambda: server.output(runs[-1]), 8)  # before the others are old
    for run in runs[1:]:
        server.instance.run_launcher.terminate(run)
    for run in runs:
        server.ends(run, Status.CANCELED)


def test_runs_end_with_their_server_and_another_takes_its_place(server: Server) -> None:
    second = subprocess.run([sys.executable, "-c", SERVER, str(server.folder)], capture_output=True, text=True)
    assert second.returncode == 1 and "already running" in second.stderr
    run_id, process = server.start_run("waits")
    server.process.kill()
    server.process.wait()
    until(lambda: has_ended(process), 20)
    assert server.health(run_id) == WorkerStatus.FAILED
    with pytest.raises(dg.DagsterInvariantViolationError, match="DefaultRunLauncher"):
        server.launch("quick")  # by a code server, of which there is none
    server.start()
    assert server.health(run_id) == WorkerStatus.FAILED
    server.ends(server.launch("quick"), Status.SUCCESS)


def test_a_server_that_hangs_is_killed_and_replaced(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its runs end, and the supervisor says why; so does a launch that it does not answer."""
    server.process.terminate()
    server.process.wait(30)
    monkeypatch.setattr(supervisor, "ASK_SECONDS", 0.5)
    question = Question(partial(ask_for_life, server.folder / "storage"), 3.0)
    command = Command("runs", [sys.executable, "-c", SERVER, str(server.folder)], server.folder, None, question)
    lines: list[str] = []
    watched = Supervisor([command], lines.append)
    command.start()
    try:
        until(server.is_up, 60)
        (process,) = [child for child in psutil.Process().children() if str(server.folder) in child.cmdline()]
        server.pid = process.pid
        run_id, run = server.start_run("waits")
        for _ in range(5):
            watched.poll()
            time.sleep(0.5)
        assert not lines and not has_ended(process)
        process.suspend()
        with ThreadPoolExecutor() as pool:
            launched = pool.submit(server.launch, "quick")
            until(lambda: watched.poll() or len(lines) == 1, 30)
            with pytest.raises(RunServerSilent):
                launched.result(20)
        assert re.search(r"UTC runs did not answer for 3 s, and was killed; it is started again in 1 s\.$", lines[0])
        until(lambda: has_ended(run), 20)
        until(lambda: watched.poll() or server.is_up(), 60)
        assert server.health(run_id) == WorkerStatus.FAILED
        server.ends(server.launch("quick"), Status.SUCCESS)
    finally:
        command.terminate()
        command.wait(30)
        server.start()
