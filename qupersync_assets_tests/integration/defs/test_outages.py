"""A cluster that is away: one attempt per run, a growing delay, a sync soon after it is back; paused and quiet hours."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from zoneinfo import ZoneInfo

import pytest

from qupersync_assets.core.errors import SyncError
from qupersync_assets.defs.postponed import postponed
from qupersync_assets.postgres.cluster_connections import ConnectionGate
from qupersync_assets.postgres.resource import PostgresResource, postgres_resource
from qupersync_assets.redshift.resource import RedshiftResource
from qupersync_assets.sandbox import Sandbox
from qupersync_assets.sandbox.gateway.relay import Gateway
from qupersync_assets.settings import Settings
from qupersync_assets.settings.redshift_login import IamClusterLogin
from qupersync_assets_tests.support.aws_server import AwsServer, use
from qupersync_assets_tests.support.demo_process import free_port
from qupersync_assets_tests.support.integration import Materialize, Query

STATE = "SELECT state, problem, next_check_at - checked_at FROM quper.cluster_connections"


@pytest.fixture
def away(sandbox: Sandbox, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Gateway]:
    """The gateway of a cluster that does not listen yet."""
    gateway = Gateway((sandbox.server.host, sandbox.server.port), port=free_port())
    monkeypatch.setenv("REDSHIFT_PORT", str(gateway.port))
    yield gateway
    gateway.stop()


def why_later(minutes: float = 0) -> dict[str, str]:
    """Return which clusters the schedule leaves alone so many minutes from now."""
    settings = Settings.load()
    now = datetime.now(UTC) + timedelta(minutes=minutes)
    return postponed(postgres_resource(settings), settings, ["sandbox"], now)


def test_an_outage_is_found_by_one_attempt_per_run(away: Gateway, materialize: Materialize, target: Query) -> None:
    materialize("node_details")
    assert target("SELECT attempts FROM quper.sync_logs") == [(2,)], "a short outage is retried"
    assert target(STATE) == [("unreachable", "PORT", timedelta(minutes=1))]
    target("UPDATE quper.cluster_connections SET since = now() - interval '10 minutes'")
    target("DELETE FROM quper.sync_logs")
    materialize()
    rows = target("SELECT attempts, error FROM quper.sync_logs")
    assert len(rows) > 1 and len(set(rows)) == 1 and rows[0][0] == 1, "one attempt for all jobs, and no retry"
    ((_, _, delay),) = target(STATE)
    assert timedelta(minutes=10) < delay < timedelta(minutes=11), "the delay is as long as the outage"
    assert "is unreachable since" in why_later()["sandbox"] and why_later(11) == {}
    target("UPDATE quper.cluster_connections SET since = now() - interval '5 hours'")
    materialize("node_details")
    assert target(STATE)[0][2] == timedelta(minutes=15)


def test_a_cluster_that_answers_again_is_due(away: Gateway, materialize: Materialize, target: Query) -> None:
    materialize("node_details")
    assert why_later()
    away.start()
    assert why_later() == {}
    assert materialize("node_details").success
    assert target("SELECT state FROM quper.cluster_connections") == [("reachable",)]


@pytest.fixture
def aws(away: Gateway, source: Query, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[AwsServer]:
    with AwsServer(source, away) as server:
        use(server, monkeypatch, tmp_path)
        yield server


@pytest.mark.parametrize("has_host", [True, False])
def test_a_paused_cluster_is_distinguished_from_a_broken_one(
    aws: AwsServer, away: Gateway, postgres: PostgresResource, target: Query, has_host: bool
) -> None:
    host = {"host": away.host, "port": away.port} if has_host else {}
    login = IamClusterLogin(
        database="redshift", user="reader", iam=True, cluster_identifier="quper", region="eu-west-1", **host
    )
    redshift = RedshiftResource(login, ConnectionGate(postgres, "sandbox", "run", 60))
    for status, problem in (("available", "PORT"), ("paused", "PAUSED")):
        aws.status = status
        with pytest.raises(SyncError) as failure, redshift.session():
            pass
        assert target("SELECT problem FROM quper.cluster_connections") == [(problem,)]
        assert ("The cluster is paused" in str(failure.value)) == (status == "paused")
    loaded = Settings.load()
    settings = SimpleNamespace(by_cluster=lambda: {"sandbox": login}, time_zone=loaded.time_zone)
    now = datetime.now(UTC)
    assert "is paused and unreachable since" in postponed(postgres, settings, ["sandbox"], now)["sandbox"]  # type: ignore[arg-type]
    aws.status = "available"
    if has_host:
        away.start()
    assert postponed(postgres, settings, ["sandbox"], now) == {}  # type: ignore[arg-type]


def test_without_the_privilege_a_paused_cluster_is_unreachable(
    aws: AwsServer, away: Gateway, postgres: PostgresResource, target: Query
) -> None:
    login = IamClusterLogin(
        host=away.host,
        port=away.port,
        database="redshift",
        user="reader",
        iam=True,
        cluster_identifier="quper",
        region="eu-west-1",
    )
    respond = aws.respond
    aws.respond = lambda operation, arguments: (  # type: ignore[method-assign]
        (403, "") if operation == "DescribeClusters" else respond(operation, arguments)
    )
    redshift = RedshiftResource(login, ConnectionGate(postgres, "sandbox", "run", 60))
    with pytest.raises(SyncError, match="refused"), redshift.session():
        pass
    assert "DescribeClusters" in aws.operations()
    assert target("SELECT problem FROM quper.cluster_connections") == [("PORT",)]


def test_quiet_hours_start_no_sync_and_miss_no_success(
    environment: dict[str, str], postgres: PostgresResource, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert why_later() == {}
    local = datetime.now(ZoneInfo("Asia/Tokyo"))
    monkeypatch.setenv("SYNC_TIMEZONE", "Asia/Tokyo")
    hours = f"{local - timedelta(hours=1):%H:%M}-{local + timedelta(hours=1):%H:%M}"
    monkeypatch.setenv("REDSHIFT_QUIET_HOURS", hours)
    end = (local + timedelta(hours=1)).astimezone(UTC)
    assert why_later()["sandbox"] == f"Cluster sandbox has quiet hours until {end:%Y-%m-%d %H:%M} UTC."
    assert why_later(minutes=61) == {}
