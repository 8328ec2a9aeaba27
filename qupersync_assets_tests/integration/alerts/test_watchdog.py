"""What does not fail, but keeps syncs from running: it is found, reported once with its end, and /health fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from qupersync_assets.alerts.watchdog import Watchdog
from qupersync_assets.defs.instance import read_state
from qupersync_assets.postgres.resource import PostgresResource
from qupersync_assets.settings import Settings
from qupersync_assets.sync import operations
from qupersync_assets.sync.dagster_state import SCHEDULE_NAME
from qupersync_assets.sync.job_choice import jobs_by_cluster
from qupersync_assets.sync.operations import find_problems
from qupersync_assets.sync.problems import Problem, Severity
from qupersync_assets_tests.support.alert_servers import Webhook
from qupersync_assets_tests.support.dagster_state import beat, queue_run, switch_off
from qupersync_assets_tests.support.integration import Query

HOUR = timedelta(hours=1)
Find = Callable[..., dict[str, Problem]]


@pytest.fixture
def home(dagster_home: Path) -> Iterator[dg.DagsterInstance]:
    """An instance whose daemon runs."""
    with dg.DagsterInstance.from_config(str(dagster_home)) as instance:
        beat(instance)
        yield instance


@pytest.fixture
def find(home: dg.DagsterInstance, postgres: PostgresResource) -> Find:
    """Find the problems by their key, as a process that has been running for `hours`."""

    def run(hours: float = 1, *, with_failed: bool = True) -> dict[str, Problem]:
        since = datetime.now(UTC) - hours * HOUR
        found = find_problems(read_state(home), postgres, Settings.load(), since, with_failed=with_failed)
        return {problem.key: problem for problem in found}

    return run


@pytest.fixture
def succeeded(target: Query, postgres: PostgresResource) -> Callable[[str], None]:
    """All jobs of the sandbox had a success, and it ended such an interval ago."""

    def write(ago: str) -> None:
        jobs = [spec.sync_job_id for spec in jobs_by_cluster(Settings.load())["sandbox"]]
        for job in jobs:
            target(
                "INSERT INTO quper.sync_logs (cluster, sync_job_id, run_id, status, started_at, completed_at) VALUES "
                "('sandbox', %s, %s, 'success', now() - %s::interval - interval '1 s', now() - %s::interval)",
                [job, ago, ago, ago],
            )

    return write


def test_nothing_is_missing_after_a_success(find: Find, succeeded: Callable[[str], None]) -> None:
    succeeded("10 minutes")
    assert find() == {}


def test_successes_are_missing_after_some_intervals(
    find: Find, succeeded: Callable[[str], None], target: Query
) -> None:
    succeeded("40 minutes")
    (problem,) = find().values()
    assert problem.cluster == "sandbox" and "node_details_sync" in problem.jobs and len(problem.jobs) > 1
    assert problem.since is not None and datetime.now(UTC) - problem.since > timedelta(minutes=39)
    row = "('sandbox', 'node_details_sync', 'r', 'failed', now(), now(), 'why')"
    target(
        f"INSERT INTO quper.sync_logs (cluster,sync_job_id,run_id,status,started_at,completed_at,error) VALUES {row}"
    )
    assert "node_details_sync" in find()["sandbox no success"].jobs
    assert "node_details_sync" not in find(with_failed=False)["sandbox no success"].jobs, "its run reports it"


def test_a_new_installation_has_time_for_its_first_sync(find: Find) -> None:
    assert find(hours=0.01) == {} and "sandbox no success" in find(hours=1)


def test_longer_intervals_allow_more(
    find: Find, succeeded: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SYNC_MAX_MISSED", "2")
    monkeypatch.setenv("SYNC_JOB_INTERVALS", "node_details_sync=3600")
    succeeded("40 minutes")
    assert "node_details_sync" not in find()["sandbox no success"].jobs


def test_no_success_is_missing_in_quiet_hours_and_soon_after(
    find: Find, succeeded: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    succeeded("3 hours")
    monkeypatch.setenv("SYNC_TIMEZONE", "UTC")
    for ended, missing in ((timedelta(minutes=-30), False), (timedelta(minutes=5), False), (HOUR, True)):
        end = datetime.now(UTC) - ended
        monkeypatch.setenv("REDSHIFT_QUIET_HOURS", f"{end - HOUR:%H:%M}-{end:%H:%M}")
        assert bool(find()) == missing


def test_a_dead_daemon_explains_the_missing_successes(find: Find, home: dg.DagsterInstance) -> None:
    beat(home, age=600)
    (problem,) = find().values()
    assert problem.key == "daemon" and " s ago" in problem.cause and problem.severity is Severity.ERROR
    assert "daemon" not in find(hours=0.01), "a daemon that starts at the same time"


def test_a_command_that_looks_once_finds_a_daemon_that_has_stopped(
    home: dg.DagsterInstance, postgres: PostgresResource, succeeded: Callable[[str], None]
) -> None:
    succeeded("1 minute")
    for age, found in ((5, []), (600, ["daemon"])):
        beat(home, age=age)
        problems = find_problems(read_state(home), postgres, Settings.load(), None, with_failed=True)
        assert [problem.key for problem in problems] == found


def test_a_schedule_that_is_off_is_found(find: Find, home: dg.DagsterInstance) -> None:
    switch_off(home, SCHEDULE_NAME)
    (problem,) = find().values()
    assert SCHEDULE_NAME in problem.cause and problem.severity is Severity.WARNING


def test_a_queue_that_does_not_move_is_found(
    find: Find, home: dg.DagsterInstance, succeeded: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    succeeded("1 minute")
    run = queue_run(home)
    assert find() == {}
    monkeypatch.setattr(operations, "QUEUE_SECONDS", -1)
    assert run.run_id in find()["queue"].cause


def test_a_problem_is_reported_once_and_its_end_has_the_same_title(
    webhook: Webhook, home: dg.DagsterInstance, succeeded: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    succeeded("40 minutes")
    monkeypatch.setattr("qupersync_assets.alerts.watchdog.POLL_SECONDS", 0.0)
    watchdog = Watchdog(Settings.load())
    watchdog.poll()
    assert not webhook.messages, "it may be a restart"
    webhook.fault = "busy"
    (line,) = watchdog.poll()
    assert "busy" in line and webhook.password not in line
    webhook.fault = ""
    for _ in range(2):
        assert watchdog.poll() == []
    (message,) = webhook.messages
    title, *lines = message.splitlines()
    assert title == "QuperSync, cluster sandbox: no success for 3 intervals"
    assert lines[0].startswith("Error since ") and any(line.startswith("What to do: ") for line in lines)
    Watchdog(Settings.load()).poll()
    other = Watchdog(Settings.load())
    for _ in range(3):
        other.poll()
    assert len(webhook.messages) == 1, "of several watchdogs one sends"
    succeeded("1 minute")
    watchdog.poll()
    assert webhook.messages[1].splitlines()[0] == title and "Recovered at" in webhook.messages[1]
    assert webhook.kinds == ["failure", "success"]
    watchdog.close()
    other.close()


def test_an_unreachable_target_is_reported(
    webhook: Webhook, home: dg.DagsterInstance, postgres: PostgresResource, monkeypatch: pytest.MonkeyPatch
) -> None:
    watchdog = Watchdog(Settings.load())
    watchdog.poll()
    with monkeypatch.context() as outage:
        outage.setattr(operations, "is_usable", _fail(postgres))
        for _ in range(2):
            watchdog.poll()
        assert "PostgreSQL cannot be used" in webhook.messages[0]
    watchdog.poll()
    assert "Recovered at" in webhook.messages[1]
    watchdog.close()


def test_an_outage_that_began_before_the_watchdog_is_reported(
    webhook: Webhook, home: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as outage:
        outage.setenv("POSTGRES_PORT", "1")
        watchdog = Watchdog(Settings.load())
        for _ in range(2):
            assert watchdog.poll() == []
    (message,) = webhook.messages
    assert "PostgreSQL cannot be used" in message and "Check POSTGRES_HOST and POSTGRES_PORT" in message
    watchdog.close()


def _fail(postgres: PostgresResource) -> Callable[[PostgresResource], bool]:
    elsewhere = postgres.settings.model_copy(update={"postgres_port": 1})

    def ask(_postgres: PostgresResource) -> bool:
        with PostgresResource(elsewhere).transaction():
            return True

    return ask
