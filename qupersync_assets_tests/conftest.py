"""The number of processes, settings of Hypothesis, and the sandbox that the tests of a process share."""

from __future__ import annotations

import gc
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from dotenv import dotenv_values
from hypothesis import HealthCheck, settings
from sqlalchemy import BigInteger

from qupersync_assets import sync_jobs
from qupersync_assets.sandbox import Sandbox
from qupersync_assets.spec import METADATA, SyncSpec, column, quper_table

# Placeholders of required settings; tests do not connect to these hosts.
PROJECT = Path(__file__).parents[1]
PLACEHOLDERS = dotenv_values(PROJECT / ".env.example")
os.environ.update({name: value for name, value in PLACEHOLDERS.items() if value})

# Neither examples nor their generation have a time limit: other processes share the machine. Fixtures are not reset
# between examples.
settings.register_profile(
    "project", deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
settings.load_profile("project")
# Seconds before the end of an hour in which no test with a database starts.
MARGIN = 15
# The slowest files, then the folders with the slowest files first; a free process takes the next file.
SLOWEST = ["processes/test_serve.py", "docs/test_blocks.py"]
ORDER = [*SLOWEST, "processes", "docs", "integration", "faults", "sandbox", "e2e", "unit"]


# What is imported stays until the end: the garbage collector would visit it again and again.
gc.disable()


def pytest_collection_finish() -> None:
    """Let the garbage collector visit only what the tests make."""
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
    gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort the tests so that slow files start early."""

    def position(item: pytest.Item) -> int:
        path = item.path.relative_to(Path(__file__).parent).as_posix()
        return next((place for place, start in enumerate(ORDER) if path.startswith(start)), 0)

    items.sort(key=position)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Start a test with a database in the next hour (UTC) rather than in the last minute of this one: the first sync
    of a day reads everything, and scans are counted by the hour."""
    left = 3600 - time.time() % 3600
    if left < MARGIN and "sandbox" in getattr(item, "fixturenames", ()):
        time.sleep(left + 1)


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Run files and unit tests in this process, which starts at once; run other folders in several processes."""
    paths = [Path(argument.partition("::")[0]) for argument in config.args]
    return 0 if all(path.is_file() or "unit" in path.parts for path in paths) else 3


@pytest.fixture(scope="session")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """A running sandbox with empty views, which tests fill and empty."""
    with Sandbox(tmp_path_factory.mktemp("sandbox")) as running:
        with closing(running.connect_quper()) as connection, connection, connection.cursor() as cursor:
            # Each login would cost 3 ms of processor time, and tests log in thousands of times.
            cursor.execute("SELECT set_config(name, '1', false) FROM pg_settings WHERE name = 'scram_iterations'")
            cursor.execute("ALTER ROLE qupersync PASSWORD %s", [running.environment()["POSTGRES_PASSWORD"]])
        yield running


@pytest.fixture
def optional_job(monkeypatch: pytest.MonkeyPatch) -> Iterator[SyncSpec]:
    """A further sync job, off by default: user_session_sync, which reads stv_sessions."""
    registry = sync_jobs._modules()
    columns = column("process", BigInteger(), "process id"), column("timeout_sec", BigInteger(), "maximum idle time")
    table = quper_table("user_sessions", *columns, key=("process",), comment="Sessions of one cluster.")
    spec = SyncSpec(
        *("user_session_sync", table, "snapshot", "Sessions.", ("stv_sessions",), "FROM stv_sessions"), optional=True
    )
    monkeypatch.setattr(sync_jobs, "_modules", lambda: {**registry, spec.sync_job_id: (spec, Path(__file__))})
    sync_jobs.all_specs.cache_clear()
    yield spec
    METADATA.remove(table)
    sync_jobs.all_specs.cache_clear()


@pytest.fixture(scope="session")
def new_project(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Path]:
    """Return a function that makes a folder with the files that commands read from their working directory."""

    def make() -> Path:
        folder = tmp_path_factory.mktemp("project")
        for name in ("workspace.yaml", "dagster.yaml"):
            shutil.copy(PROJECT / name, folder)
        return folder

    return make
