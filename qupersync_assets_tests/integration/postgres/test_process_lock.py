"""Locks of processes: one service per database, and runs that live on whichever machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import dagster as dg
import pytest

from qupersync_assets.defs import living_runs as living
from qupersync_assets.postgres.process_lock import ProcessLock, living_run, living_runs
from qupersync_assets.postgres.resource import PostgresResource
from qupersync_assets.serve import only_service as only
from qupersync_assets.serve.only_service import only_service
from qupersync_assets.serve.supervisor import ServeError
from qupersync_assets.settings import Settings
from qupersync_assets_tests.support.integration import Query

RUN = "6b6f1d2e-0000-4000-8000-000000000001"
END_ALL = (
    "SELECT pg_terminate_backend(l.pid, 5000) FROM pg_locks l "
    "WHERE locktype = 'advisory' AND granted AND l.pid <> pg_backend_pid()"
)


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(only, "FIRST_DELAY", 0.01)
    monkeypatch.setattr(only, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr("qupersync_assets.postgres.process_lock.LOOK_SECONDS", 0.05)


def other_machine() -> PostgresResource:
    """Connections of their own, as those of another machine."""
    return PostgresResource(Settings.load())


def alive(postgres: PostgresResource) -> bool:
    with postgres.transaction() as connection:
        return living_runs(connection, [RUN, "another"]) == {RUN}


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_second_service_is_refused_with_the_place_of_the_first(bare: PostgresResource) -> None:
    refusal = r"already up .*make up on \S+, folder .* since 20.* UTC.*Stop it"
    with only_service(bare), pytest.raises(ServeError, match=refusal), only_service(other_machine()):
        pass
    with only_service(other_machine()):
        pass


def test_a_service_takes_its_lock_again_after_a_restart_of_postgresql(bare: PostgresResource, target: Query) -> None:
    with only_service(bare) as service:
        assert target(END_ALL)
        wait_until(
            lambda: service.ended() is None and bool(target("SELECT pid FROM pg_locks WHERE locktype = 'advisory'"))
        )
        with pytest.raises(ServeError), only_service(other_machine()):
            pass


def test_a_service_ends_if_another_one_has_started_meanwhile(bare: PostgresResource, target: Query) -> None:
    with only_service(bare) as service:
        assert target(END_ALL)
        with only_service(other_machine()), pytest.raises(ServeError, match="has started while"):
            wait_until(lambda: service.ended() is not None)


def test_a_lock_whose_session_has_ended_is_not_held(bare: PostgresResource, target: Query) -> None:
    lock = ProcessLock(bare.engine(), "x", "a test")
    assert lock.take() and lock.is_held()
    assert target(END_ALL)
    wait_until(lambda: not lock.is_held())
    lock.release()


def test_a_living_run_is_known_to_be_alive_also_after_a_restart_of_postgresql(
    bare: PostgresResource, target: Query
) -> None:
    with living_run(bare.engine(), RUN):
        wait_until(lambda: alive(other_machine()))
        assert target(END_ALL)
        wait_until(lambda: alive(other_machine()))
    assert not alive(bare)


def test_each_executor_shows_that_its_run_lives(bare: PostgresResource) -> None:
    class Inner(dg.Executor):
        retries: Any = None

        def app_args(self) -> str:  # as Celery's executor has it
            return "of the inner one"

        def execute(self, plan_context: Any, execution_plan: Any) -> Iterator[Any]:
            wait_until(lambda: alive(bare))
            yield execution_plan

    class Plan:
        run_id = RUN

    definition = dg.ExecutorDefinition("inner", executor_creation_fn=lambda _: Inner())
    shown = living.show_living_runs(definition, bare)
    assert shown.name == "inner" and shown.executor_creation_fn
    context: Any = None
    executor: Any = shown.executor_creation_fn(context)
    assert list(executor.execute(Plan(), "event")) == ["event"]
    wait_until(lambda: not alive(bare))  # the server ends the session a moment later
    assert executor.app_args() == "of the inner one"
