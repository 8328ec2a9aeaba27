"""The run launcher of dagster.yaml: a run is a fork of the run server, which has imported everything.

Without a run server, as with `dagster dev` or while it is started again, a run is launched by Dagster's default
launcher: a new process of the code server. https://docs.dagster.io/deployment/execution/run-launchers
"""

from pathlib import Path
from typing import Any

import dagster as dg
from dagster._core.launcher import CheckRunHealthResult, LaunchRunContext, WorkerStatus

from qupersync_assets.serve.run_server_socket import NAME as SOCKET_NAME
from qupersync_assets.serve.run_server_socket import RunServerGone, RunServerSilent, ask, connected

FORKED_TAG = "qupersync/forked"


def is_forked(run: dg.DagsterRun) -> bool:
    """Return whether the run server knows a run, or has known it."""
    return run.tags.get(FORKED_TAG) == "true"


class ForkingRunLauncher(dg.DefaultRunLauncher):
    """Launches runs as forks of the run server of this instance."""

    def launch_run(self, context: LaunchRunContext) -> None:
        """Fork the run; or launch it as the default launcher if there is no run server.

        Raises:
            RunServerSilent: it is not known whether the run has started; Dagster reports it as failed.
        """
        run_id = context.dagster_run.run_id
        if (self._folder() / SOCKET_NAME).exists():
            # Before the run has a process, which writes the same row.
            self._instance.add_run_tags(run_id, {FORKED_TAG: "true"})
            try:
                self._ask("launch", run_id)
                return
            except RunServerGone:
                self._instance.add_run_tags(run_id, {FORKED_TAG: "false"})
        super().launch_run(context)

    def terminate(self, run_id: str) -> bool:
        """Ask the process of a run to stop; the run server kills it if it does not."""
        run = self._instance.get_run_by_id(run_id)
        if run is None or run.is_finished:
            return False
        try:
            if self._ask("status", run_id)["found"]:
                self._instance.report_run_canceling(run)
                return bool(self._ask("terminate", run_id)["found"])
        except RunServerGone:
            pass  # the run has ended with it, or a code server has launched it
        return bool(super().terminate(run_id))  # type: ignore[no-untyped-call]

    @property
    def supports_check_run_worker_health(self) -> bool:
        """Let Dagster's run monitoring ask for the health of runs."""
        return True

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """Return whether the process of a forked run is alive; other runs count as alive."""
        if not is_forked(run):
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        try:
            how = self._ask("status", run.run_id)["ended"]
        except RunServerGone:
            how = "ended with the run server"
        except RunServerSilent:
            how = None  # it may be busy
        if how is None:
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        return CheckRunHealthResult(WorkerStatus.FAILED, f"The process of the run {how}")

    def _ask(self, action: str, run_id: str) -> dict[str, Any]:
        with connected(self._folder()) as server:
            return ask(server, action, run_id)

    def _folder(self) -> Path:
        return Path(self._instance.storage_directory())
