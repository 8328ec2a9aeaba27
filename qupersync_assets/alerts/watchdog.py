"""`python -m qupersync_assets.alerts.watchdog`: sends alerts when nothing fails, and nothing is synced either.

Sensors are evaluated by the daemon, in the code location: they cannot report that one of these is dead. `make up` runs
this process beside the daemon, and `qupersync metrics` runs it in a thread.
"""

import threading
from contextlib import ExitStack
from datetime import UTC, datetime

import dagster as dg
import sqlalchemy as sa

from qupersync_assets.alerts.apprise_notifier import Alert, send_alert
from qupersync_assets.alerts.open_problems import OpenProblems, end, is_sent, report, wanted
from qupersync_assets.core.log_format import log_reporter
from qupersync_assets.core.redaction import redact
from qupersync_assets.core.signals import stop_on_signals
from qupersync_assets.defs.instance import configured_instance, read_state
from qupersync_assets.postgres.advisory_lock import lock_key
from qupersync_assets.postgres.resource import postgres_resource
from qupersync_assets.settings import Settings
from qupersync_assets.settings.alerts import AlertUrl, parse_alert_urls
from qupersync_assets.sync.operations import find_problems
from qupersync_assets.sync.problems import Problem

POLL_SECONDS = 30.0
# A problem of one poll only may be a restart.
_POLLS = 2


class Watchdog:
    """Reports problems to each URL of ALERT_URLS once, and their ends. Of several watchdogs one sends."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._postgres = postgres_resource(settings)
        self._since = datetime.now(UTC)
        self._stack = ExitStack()
        self._instance: dg.DagsterInstance | None = None
        self._lock: sa.Connection | None = None
        self._leads = True  # unless PostgreSQL says otherwise: its outage must be reported
        self._seen: dict[str, int] = {}  # in how many polls in a row each problem was found
        self._reported: dict[AlertUrl, OpenProblems] = {url: {} for url in parse_alert_urls(settings.alert_urls)}
        self._unsent: dict[AlertUrl, list[Alert]] = {url: [] for url in self._reported}

    def run(self, stop: threading.Event) -> None:
        """Poll until the event is set."""
        write = log_reporter(self._settings.log_format)
        while not stop.wait(POLL_SECONDS):
            for line in self.poll():
                write(line)
        self.close()

    def close(self) -> None:
        """Release the lock, and close the Dagster instance."""
        self._stack.close()

    def poll(self) -> list[str]:
        """Find problems and send what is new; return what could not be sent, one line each."""
        problems = {problem.key: problem for problem in self._find()}
        self._seen = {key: self._seen.get(key, 0) + 1 for key in problems}
        # One that has reported a problem also reports its end.
        lasting = [p for key, p in problems.items() if self._seen[key] >= _POLLS] if self._is_leader() else []
        lines = []
        for url, reported in self._reported.items():
            new = [report(reported, problem) for problem in lasting if is_sent(problem, self._settings.alert_severity)]
            over = [end(reported, key) for key in reported.keys() - problems.keys()]
            self._unsent[url] += wanted([*new, *over])
            try:
                while self._unsent[url]:
                    send_alert(url, self._unsent[url][0])
                    del self._unsent[url][0]
            except Exception as error:
                lines.append(f"An alert is sent again in {POLL_SECONDS:.0f} s: {redact(str(error))}")
        return lines

    def _find(self) -> list[Problem]:
        try:
            self._postgres.check()
            if self._instance is None:
                self._instance = self._stack.enter_context(configured_instance(self._settings))
            if self._instance is None:
                return []
            return find_problems(
                read_state(self._instance), self._postgres, self._settings, self._since, with_failed=False
            )
        except Exception as error:  # also of whichever storage the instance has
            action = "No sync runs. Repair or start PostgreSQL, or check POSTGRES_*; `qupersync doctor` says more."
            return [Problem("postgres", "PostgreSQL cannot be used", redact(str(error)), action)]

    def _is_leader(self) -> bool:
        """Return whether this watchdog sends: it has the lock, or had it when PostgreSQL could last be reached."""
        try:
            if self._lock is None:
                self._lock = self._stack.enter_context(self._postgres.engine().connect())
                self._lock.detach()
                self._leads = bool(self._lock.scalar(_LOCK, {"key": lock_key("", "watchdog")}))
            elif self._leads:
                self._lock.scalar(sa.select(1))
            else:
                self._leads = bool(self._lock.scalar(_LOCK, {"key": lock_key("", "watchdog")}))
            self._lock.commit()
        except sa.exc.SQLAlchemyError:
            self._lock = None
        return self._leads


_LOCK = sa.text("SELECT pg_try_advisory_lock(:key)")


def start_watchdog(settings: Settings) -> threading.Event | None:
    """Start a watchdog in a thread, if ALERT_URLS is set; the event that is returned stops it."""
    if settings.alert_urls is None:
        return None
    stop = threading.Event()
    threading.Thread(target=Watchdog(settings).run, args=[stop], name="watchdog", daemon=True).start()
    return stop


def main() -> None:
    """Watch until a signal."""
    stop_on_signals()
    try:
        Watchdog(Settings.load()).run(threading.Event())
    except KeyboardInterrupt:
        return


if __name__ == "__main__":
    main()
