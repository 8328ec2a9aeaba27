"""Which clusters the schedule leaves alone for a while, and why: their last login failed."""

from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime

from qupersync_assets.core.errors import SyncError
from qupersync_assets.postgres.cluster_connections import Connection, ConnectionState, failed_connections
from qupersync_assets.postgres.job_status import is_usable
from qupersync_assets.postgres.resource import PostgresResource
from qupersync_assets.redshift.authentication import resolved
from qupersync_assets.redshift.probe import answers
from qupersync_assets.settings import Settings
from qupersync_assets.settings.redshift import with_current_credentials
from qupersync_assets.settings.redshift_login import RedshiftSettings


def postponed(
    postgres: PostgresResource, settings: Settings, clusters: Collection[str], now: datetime
) -> dict[str, str]:
    """Return those of the clusters that are not to be synced at `now`, each with the reason.

    A changed login, and a cluster that answers again, are due at once. Runs that people start are not postponed, nor
    any run while PostgreSQL cannot be reached: the run says why.
    """
    try:
        if not is_usable(postgres):
            return {}
        with postgres.transaction() as connection:
            failed = failed_connections(connection)
    except SyncError:
        return {}
    waiting = {name: failed[name] for name in clusters if name in failed and now < failed[name].next_check_at}
    if not waiting:
        return {}
    with ThreadPoolExecutor(len(waiting)) as pool:  # each may take some seconds
        logins = settings.by_cluster()
        due = pool.map(lambda name: _is_due(waiting[name], logins[name]), waiting)
        return {name: _reason(name, waiting[name]) for name, is_due in zip(waiting, due, strict=True) if not is_due}


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
    what = "is unreachable" if failed.state is ConnectionState.UNREACHABLE else "refuses the login"
    return f"Cluster {cluster} {what} since {since}; the next attempt is after {after}."
