"""The gate for logins: what counts for later logins, for how long, and what is recorded of each cluster."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pytest
from pydantic import SecretStr

from qupersync_assets.core.errors import INSUFFICIENT_PRIVILEGE, ErrorClass, SyncError
from qupersync_assets.core.redaction import learn_secret
from qupersync_assets.postgres.cluster_connections import ConnectionGate
from qupersync_assets.postgres.resource import PostgresResource
from qupersync_assets.settings.redshift_login import PasswordLogin, RedshiftSettings
from qupersync_assets_tests.support.integration import Query

LOGIN = PasswordLogin(host="h", database="dev", user="reader", password=SecretStr("one"))
OTHER = LOGIN.model_copy(update={"password": SecretStr("two")})
# By problem: the class of the error of a login.
PROBLEMS = {
    "28P01": ErrorClass.FATAL,
    "PORT": ErrorClass.TRANSIENT,
    "HOST": ErrorClass.FATAL,
    INSUFFICIENT_PRIVILEGE: ErrorClass.FATAL,
}
DELAY = "SELECT round(extract(epoch FROM next_check_at - checked_at) / 60) FROM quper.cluster_connections"


@dataclass
class Logins:
    """Logs in through the gate; `tried` are the logins that reached the cluster."""

    postgres: PostgresResource
    target: Query
    tried: list[RedshiftSettings] = field(default_factory=list)

    def log_in(
        self,
        problem: str = "",
        *,
        login: RedshiftSettings = LOGIN,
        run: str = "run",
        cluster: str = "one",
        is_main: bool = True,
        resolve: Callable[[RedshiftSettings], RedshiftSettings] = lambda login: login,
        during: Callable[[], object] = lambda: None,
    ) -> SyncError | None:
        """Return the error of a login whose cluster answers with a problem, or without one."""

        def connect(to: RedshiftSettings) -> str:
            self.tried.append(to)
            during()
            if problem:
                state = problem if len(problem) == 5 else None
                raise SyncError(f"no login: {problem}, s3cr3t-word", PROBLEMS[problem], state, problem, problem)
            return "connected"

        gate = ConnectionGate(self.postgres, cluster, run, 60)
        try:
            assert gate.attempt(login, resolve, connect, is_main=is_main) == "connected"
        except SyncError as error:
            return error
        return None

    def count(self, *arguments: Any, **named: Any) -> int:
        """Return how many logins reach the cluster."""
        before = len(self.tried)
        self.log_in(*arguments, **named)
        return len(self.tried) - before

    def state(self, cluster: str = "one") -> tuple[Any, ...]:
        names = "state, problem, next_check_at IS NULL"
        rows = self.target(f"SELECT {names} FROM quper.cluster_connections WHERE cluster = %s", [cluster])
        return rows[0] if rows else ()

    def since(self, ago: str) -> None:
        """Let the state last for some time."""
        self.target("UPDATE quper.cluster_connections SET since = now() - %s::interval", [ago])


@pytest.fixture
def logins(postgres: PostgresResource, target: Query) -> Logins:
    return Logins(postgres, target)


def test_a_refused_login_counts_for_its_run_and_its_password(logins: Logins) -> None:
    assert logins.count("28P01") == 1
    assert logins.count() == 0 and logins.count(is_main=False) == 0
    known = logins.log_in()
    assert known and (known.error_class, known.sqlstate, known.problem) == (ErrorClass.FATAL, "28P01", "28P01")
    assert known.connection == "refused"
    assert logins.count("28P01", run="another") == 1
    assert logins.count("28P01", login=OTHER) == 1
    # The secret that AWS has now is the one that was refused.
    assert logins.count(login=LOGIN, resolve=lambda _: OTHER) == 0
    assert logins.count(login=LOGIN, resolve=lambda _: LOGIN.model_copy(update={"port": 5440})) == 1


def test_a_cluster_that_does_not_answer_is_tried_until_the_patience_ends(logins: Logins) -> None:
    first = logins.log_in("PORT")
    assert first and first.error_class is ErrorClass.TRANSIENT and first.connection == "unreachable"
    assert logins.count("PORT") == 1
    logins.since("2 minutes")
    last = logins.log_in("PORT", run="later")
    assert last and last.error_class is ErrorClass.FATAL
    assert logins.count(run="later") == 0 and logins.count("PORT", run="latest") == 1
    known = logins.log_in(run="latest")
    assert known and known.error_class is ErrorClass.FATAL and (known.problem, known.sqlstate) == ("PORT", None)
    # Another database may be reached.
    assert logins.count(run="latest", is_main=False) == 1


def test_a_login_that_waited_for_one_that_failed_is_not_tried(logins: Logins, target: Query) -> None:
    waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    later: list[Future[SyncError | None]] = []
    with ThreadPoolExecutor(1) as pool:

        def wait() -> None:
            later.append(pool.submit(logins.log_in, "PORT", run="another"))
            for _ in range(400):
                if target(waiting) == [(1,)]:
                    break
                time.sleep(0.05)

        logins.log_in("PORT", during=wait)
        known = later[0].result()
    assert len(logins.tried) == 1 and known and known.error_class is ErrorClass.TRANSIENT


def test_logins_to_other_databases_say_only_whether_the_password_is_right(logins: Logins) -> None:
    logins.log_in(INSUFFICIENT_PRIVILEGE, is_main=False)
    logins.log_in("PORT", is_main=False)
    assert logins.state() == ()
    logins.log_in("28P01", is_main=False)
    assert logins.state() == ("refused", "28P01", False)
    logins.log_in(login=OTHER, is_main=False)
    assert logins.state() == ("refused", "28P01", False)
    assert logins.log_in(login=OTHER) is None
    assert logins.state() == ("reachable", None, True)


def test_clusters_do_not_delay_each_other(logins: Logins) -> None:
    logins.log_in("28P01")
    # While one cluster hangs, the other one is tried, and its login recorded.
    assert logins.count(run="again", during=lambda: logins.log_in("28P01", cluster="two")) == 2
    assert logins.state("two") == ("refused", "28P01", False) and logins.state("one") == ("reachable", None, True)
    logins.log_in(login=OTHER, cluster="two")
    assert logins.count(cluster="three") == 1 and logins.state("three") == ("reachable", None, True)


@pytest.mark.parametrize(
    ("problem", "delays"), [("PORT", (1, 10, 15, 15)), ("28P01", (15, 15, 60, 360)), ("HOST", (1, 10, 15, 15))]
)
def test_the_delay_grows_with_the_time_since_the_first_failure(
    logins: Logins, target: Query, problem: str, delays: tuple[int, ...]
) -> None:
    found: list[tuple[Any, ...]] = []
    for ago in ("0", "10 minutes", "1 hour", "10 hours"):
        logins.since(ago)
        logins.log_in(problem, run=ago)
        found.append(*target(DELAY))
    assert found == [(delay,) for delay in delays]
    assert logins.state()[0] == ("refused" if problem == "28P01" else "unreachable")


@pytest.mark.parametrize(
    ("first", "then", "is_new"),
    [
        (("PORT", LOGIN), ("28P01", LOGIN), True),
        (("28P01", LOGIN), ("PORT", LOGIN), True),
        (("28P01", LOGIN), ("28P01", OTHER), True),
        (("28P01", LOGIN), ("28P01", LOGIN), False),
        (("PORT", LOGIN), ("HOST", OTHER), False),
    ],
)
def test_a_state_begins_with_another_problem_or_another_refused_password(
    logins: Logins, target: Query, first: tuple[str, Any], then: tuple[str, Any], is_new: bool
) -> None:
    logins.log_in(first[0], login=first[1])
    logins.since("3 hours")
    logins.log_in(then[0], login=then[1], run="next")
    is_now = target("SELECT since > now() - interval '1 minute' FROM quper.cluster_connections")
    assert is_now == [(is_new,)]


def test_a_login_that_the_target_cannot_record_is_used_and_its_error_is_shown(logins: Logins, target: Query) -> None:
    def end_session() -> None:
        target("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted")

    assert logins.log_in(during=end_session) is None
    error = logins.log_in("28P01", during=end_session)
    assert error and error.problem == "28P01"


def test_the_record_has_no_secret_and_changes_only_with_the_state(logins: Logins, target: Query) -> None:
    learn_secret("s3cr3t-word")
    logins.log_in("28P01")
    (error,) = target("SELECT error FROM quper.cluster_connections")[0]
    assert error.startswith("no login: 28P01, ") and "s3cr3t" not in error
    logins.log_in(run="next")
    before = target("SELECT ctid, xmin FROM quper.cluster_connections")
    logins.log_in(run="last")
    assert target("SELECT ctid, xmin FROM quper.cluster_connections") == before
    logins.since("2 minutes")
    assert logins.count(run="next") == 1 and logins.count(login=OTHER, run="next") == 1
