"""A step that is stopped is killed after its time limit: it is retried, and the other steps go on."""

import os
import signal
from pathlib import Path

import dagster as dg

from qupersync_assets.defs.names import asset_key
from qupersync_assets.defs.run_health import failed_jobs
from qupersync_assets.defs.step_timeout import with_step_timeout
from qupersync_assets.sync_jobs import all_specs

SECONDS = 6  # the first step of a busy machine imports Dagster
NEVER, ONCE, ALWAYS = SPECS = all_specs()[:3]
STOPS = {NEVER.table.name: 0, ONCE.table.name: 1, ALWAYS.table.name: 9}


class Folder(dg.Config):
    folder: str


def _asset(name: str, stops: int) -> dg.AssetsDefinition:
    @dg.asset(key=["quper", name], retry_policy=dg.RetryPolicy(max_retries=1))
    def step(config: Folder) -> int:
        with Path(config.folder, name).open("a+") as attempts:
            attempts.write("x")
            attempts.flush()
            attempts.seek(0)
            if len(attempts.read()) <= stops:
                os.kill(os.getpid(), signal.SIGSTOP)
        return 1

    return step


def job() -> dg.JobDefinition:
    forked = {"forkserver": {"preload_modules": ["qupersync_assets.forkserver_preload"]}}
    executor = with_step_timeout(dg.multiprocess_executor, SECONDS).configured({"start_method": forked})
    assets = [_asset(name, stops) for name, stops in STOPS.items()]
    return dg.Definitions(assets, executor=executor, jobs=[dg.define_asset_job("all")]).resolve_job_def("all")


def test_a_stopped_step_ends_and_the_others_go_on(tmp_path: Path) -> None:
    config = {"config": {"folder": str(tmp_path)}}
    ops = {"__".join(asset_key(spec).path): config for spec in SPECS}
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        with dg.execute_job(dg.reconstructable(job), instance, run_config={"ops": ops}) as result:
            run = instance.get_run_by_id(result.run_id)
        assert {name: (tmp_path / name).read_text() for name in STOPS} == dict(
            zip(STOPS, ("x", "xx", "xx"), strict=True)
        )
        assert run is not None and failed_jobs(instance, run, SPECS) == {
            ALWAYS.sync_job_id: f"It took longer than SYNC_STEP_TIMEOUT ({SECONDS} s), and was killed"
        }
