"""Finds the clusters that the schedule does not sync for a while, and why: quiet hours, or a failed login."""

from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime

from qupersync_assets.core.errors import SyncError
from qupersync_assets.core.quiet_hours import quiet_until
from qupersync_assets.postgres.cluster_connections import Connection, ConnectionState, failed_connections
from qupersync_assets.postgres.job_status import is_usable
from qupersync_assets.postgres.resource import PostgresResource
from qupersync_assets.redshift.authentication import resolved
from qupersync_assets.redshift.availability import answers
from qupersync_assets.settings import Settings
from qupersync_assets.settings.redshift import with_current_credentials
from qupersync_assets.settings.redshift_login import RedshiftSettings


def postponed(
    postgres: PostgresResource, settings: Settings, clusters: Collection[str], now: datetime
) -> dict[str, str]:
    """Return those of the clusters that are not to be synced at `now`, each with the reason: quiet hours, or a failure.

    A changed login, and a cluster that answers again, are due at once. Runs that people start are not postponed, nor
    any run while PostgreSQL cannot be reached: the run says why.
    """
    logins = settings.by_cluster()
    local = now.astimezone(settings.time_zone())
    quiet = {
        name: f"Cluster {name} has quiet hours until {until.astimezone(UTC):%Y-%m-%d %H:%M} UTC."
        for name in clusters
        if (until := quiet_until(logins[name].quiet_hours, local))
    }
    clusters = [name for name in clusters if name not in quiet]
    try:
        if not clusters or not is_usable(postgres):
            return quiet
        with postgres.transaction() as connection:
            failed = failed_connections(connection)
    except SyncError:
        return quiet
    waiting = {name: failed[name] for name in clusters if name in failed and now < failed[name].next_check_at}
    if not waiting:
        return quiet
    with ThreadPoolExecutor(len(waiting)) as pool:  # each may take some seconds
        due = dict(zip(waiting, pool.map(lambda name: _is_due(waiting[name], logins[name]), waiting), strict=True))
    return quiet | {name: _reason(name, failed) for name, failed in waiting.items() if not due[name]}


def _is_due(failed: Connection, login: RedshiftSettings) -> bool:
    """Return whether a failed login may succeed before the time of the next one."""
    login = with_current_credentials(login)
    if failed.state is ConnectionState.UNREACHABLE and failed.is_of_network and answers(login):
        return True
    if failed.is_of(login):
        return False
    with suppress(Exception):  # AWS gives no secret: it is tried again at the next time
        return not failed.is_of(resolved(login))
    return False


def _reason(cluster: str, failed: Connection) -> str:
    since, after = (f"{at.astimezone(UTC):%Y-%m-%d %H:%M} UTC" for at in (failed.since, failed.next_check_at))
    what = "refuses the login" if failed.state is ConnectionState.REFUSED else "is unreachable"
    what = "is paused and unreachable" if failed.is_paused else what
    return f"Cluster {cluster} {what} since {since}; the next attempt is after {after}."
