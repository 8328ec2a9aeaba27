"""A refused login counts for all jobs of a run, delays scheduled runs, and ends with another password."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from qupersync_assets.core.environment import load_env_file
from qupersync_assets.core.errors import ErrorClass, SyncError
from qupersync_assets.defs import build_definitions
from qupersync_assets.defs.postponed import postponed
from qupersync_assets.postgres.cluster_connections import ConnectionGate
from qupersync_assets.postgres.resource import PostgresResource, postgres_resource
from qupersync_assets.redshift.resource import RedshiftResource
from qupersync_assets.sandbox import Sandbox
from qupersync_assets.settings import Settings
from qupersync_assets_tests.support.integration import Materialize, Query
from qupersync_assets_tests.support.ticks import Ticker

Count = Callable[[], int]
STATE = "SELECT state, problem, error FROM quper.cluster_connections"


@pytest.fixture
def refused(sandbox: Sandbox, environment: dict[str, str]) -> Count:
    """Count the logins of the reader that the source's server has refused since the start of the test."""
    before = sandbox.server.log.stat().st_size
    refusal = f'FATAL:  password authentication failed for user "{environment["REDSHIFT_USER"]}"'.encode()
    return lambda: sandbox.server.log.read_bytes()[before:].count(refusal)


@pytest.fixture
def wrong(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]) -> None:
    monkeypatch.setenv("REDSHIFT_PASSWORD", "wr0ng-s3cret")


def why_later(hours: float = 0) -> dict[str, str]:
    """Return which clusters the schedule leaves alone so many hours from now."""
    settings = Settings.load()
    return postponed(postgres_resource(settings), settings, ["sandbox"], datetime.now(UTC) + timedelta(hours=hours))


def test_all_jobs_of_a_run_share_one_refused_login(
    wrong: None, materialize: Materialize, target: Query, refused: Count
) -> None:
    run = materialize()
    assert not run.success and refused() == 1
    rows = target("SELECT status, attempts, error FROM quper.sync_logs")
    assert len(rows) > 1 and len(set(rows)) == 1, "each job failed at its first attempt, for the same reason"
    ((state, problem, error),) = target(STATE)
    assert (state, problem) == ("refused", "28P01") and "Check REDSHIFT_USER and REDSHIFT_PASSWORD" in error
    assert error in rows[0][2] and "wr0ng" not in error


def test_logins_of_several_processes_wait_for_each_other(
    wrong: None, postgres: PostgresResource, refused: Count, environment: dict[str, str]
) -> None:
    settings = Settings.load()

    def log_in(run_id: str) -> str:
        own = postgres_resource(settings)
        redshift = RedshiftResource(settings.by_cluster()["sandbox"], ConnectionGate(own, "sandbox", run_id, 60))
        with pytest.raises(SyncError) as failure, redshift.session():
            pass
        own.dispose()
        assert failure.value.error_class is ErrorClass.FATAL
        return str(failure.value)

    with ThreadPoolExecutor(6) as pool:
        texts = set(pool.map(log_in, ["one"] * 6))
    assert len(texts) == 1 and refused() == 1
    log_in("two")  # a person starts it
    assert refused() == 2


def test_a_refused_login_delays_scheduled_runs(
    wrong: None, materialize: Materialize, target: Query, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    materialize("node_details")
    assert "refuses the login since" in why_later()["sandbox"] and why_later(1) == {}
    target("UPDATE quper.cluster_connections SET since = now() - interval '2 days'")
    monkeypatch.setenv("SYNC_MISFIRE_GRACE", "300")
    materialize("node_details")  # the delay doubles, up to six hours
    assert why_later(5) and why_later(7) == {}
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        tick = Ticker(build_definitions(Settings.load()), instance).look(time.time() // 300 * 300)
    assert "refuses the login since" in tick.skip_message and not tick.run_requests


def test_another_password_ends_the_delay(
    wrong: None, materialize: Materialize, target: Query, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    materialize("node_details")
    assert why_later()
    monkeypatch.setenv("REDSHIFT_PASSWORD", environment["REDSHIFT_PASSWORD"])
    assert why_later() == {}
    assert materialize("node_details").success
    assert target(STATE) == [("reachable", None, None)]


def test_a_password_in_the_file_is_read_again(
    environment: dict[str, str], postgres: PostgresResource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / ".env"
    file.write_text("REDSHIFT_PASSWORD=wr0ng-s3cret\n")
    monkeypatch.delenv("REDSHIFT_PASSWORD")
    for name in ("QUPERSYNC_ENV_FILE", "QUPERSYNC_ENV_FILE_NAMES"):
        monkeypatch.setenv(name, "")
    load_env_file(file)
    settings = Settings.load()  # as a process that goes on running
    redshift = RedshiftResource(settings.by_cluster()["sandbox"], ConnectionGate(postgres, "sandbox", "run", 60))
    with pytest.raises(SyncError, match="28P01"), redshift.session():
        pass
    assert postponed(postgres, settings, ["sandbox"], datetime.now(UTC))
    file.write_text(f"REDSHIFT_PASSWORD='{environment['REDSHIFT_PASSWORD']}'\n")
    assert postponed(postgres, settings, ["sandbox"], datetime.now(UTC)) == {}
    with redshift.session() as session:
        assert session.rows("SELECT 1")[0][0] == 1
    monkeypatch.delenv("REDSHIFT_PASSWORD")


def test_the_stored_login_confirms_no_guess(wrong: None, materialize: Materialize, target: Query) -> None:
    materialize("node_details")
    ((login,),) = target("SELECT login FROM quper.cluster_connections")
    salt, digest = login.split(":")
    assert len(digest) * 4 == 16 and len(salt) == 16
    assert "wr0ng" not in str(target("SELECT * FROM quper.cluster_connections"))


def test_a_login_that_hangs_does_not_stop_the_others(
    postgres: PostgresResource, target: Query, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qupersync_assets.postgres.cluster_connections._EXTRA_SECONDS", 0)
    monkeypatch.setenv("REDSHIFT_CONNECT_TIMEOUT", "1")
    login = Settings.load().by_cluster()["sandbox"]
    gate = ConnectionGate(postgres, "sandbox", "run", 60)

    def hang(_login: object) -> str:
        with RedshiftResource(login, gate).session() as session:  # another process
            return str(session.rows("SELECT 1")[0][0])

    assert gate.attempt(login, lambda found: found, hang, is_main=True) == "1"
