"""Checks of Redshift: login, version, clock, kind of cluster, privileges, views, and jobs."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

from qupersync_assets.core.errors import INSUFFICIENT_PRIVILEGE, UNDEFINED_TABLE, SyncError
from qupersync_assets.core.redaction import redact
from qupersync_assets.doctor import databases
from qupersync_assets.doctor.report import Finding, check_clock
from qupersync_assets.redshift.catalog import Catalog, missing_columns, read_catalog
from qupersync_assets.redshift.privileges import Privileges, find_privileges, grant_all_rows, grant_select
from qupersync_assets.redshift.resource import RedshiftResource, session_settings
from qupersync_assets.redshift.session import Session
from qupersync_assets.redshift.source import refusal
from qupersync_assets.settings.redshift_login import IamServerlessLogin
from qupersync_assets.spec import SyncSpec, Variant, redshift_views

# Superusers can read it on Serverless.
SERVERLESS_VIEW = "sys_serverless_usage"
# One row per node, on provisioned clusters.
NODES_VIEW = "stv_node_storage_capacity"
HOUR = 3600
_UPDATE = "Install the next patch of the cluster (see its maintenance track and window)"
_finding = partial(Finding, "redshift")


@dataclass(frozen=True)
class Cluster:
    """Facts about the cluster and the user."""

    kind: str  # provisioned, Serverless, Multi-AZ, or "Serverless or Multi-AZ"
    nodes: int | None  # number of nodes, if it is known
    catalog: Catalog  # columns of the views
    refusals: dict[str, SyncError]  # error of each view that cannot be read
    privileges: Privileges  # of the user

    def lacks(self, view: str) -> bool:
        """Return whether this kind of cluster does not have the view."""
        if redshift_views.needs_serverless(view):
            return "Serverless" not in self.kind
        return self.kind != "provisioned" and redshift_views.needs_provisioned(view)


def examine(redshift: RedshiftResource, specs: Sequence[SyncSpec], login: str, interval: int) -> Iterator[Finding]:
    """Yield the findings about Redshift; `login` describes the login, `interval` is in seconds. A failed login is the
    only finding."""
    try:
        with redshift.session() as session:
            yield _finding("login", login)
            yield from _server(session)
            shown = [f"{name} {session.rows(f'SHOW {name}')[0][0]}" for name in session_settings(redshift.settings)]
            yield _finding("session", ", ".join(shown))
            cluster = _cluster(session, redshift, specs)
        of_databases = list(databases.examine(redshift, specs, cluster.privileges.user))
    except SyncError as error:
        yield _finding("login", login, redact(str(error)))
        return
    yield _finding("kind", _kind(cluster))
    if cluster.kind == "Serverless":
        yield _finding("active hours", _active_hours(interval, redshift.settings.prefix))
    yield _visible_rows(cluster)
    needed = {view for spec in specs for view in _needed_views(spec, cluster)}
    for view in dict.fromkeys(view for spec in specs for view in spec.all_sources):
        yield _view(view, cluster, view in needed)
    for spec in specs:
        yield _job(spec, cluster)
    yield from of_databases


def _server(session: Session) -> Iterator[Finding]:
    version = str(session.rows("SELECT version()")[0][0])
    number = re.search(r"Redshift ([\d.]+)", version)
    yield _finding("version", number[1] if number else version)
    before = datetime.now(UTC)
    server_time = session.clock()
    ntp = "Synchronize the clock of this machine (NTP); AWS synchronizes the clock of the cluster."
    yield check_clock("redshift", before, server_time, datetime.now(UTC), ntp)


def _cluster(session: Session, redshift: RedshiftResource, specs: Sequence[SyncSpec]) -> Cluster:
    views = list(dict.fromkeys(view for spec in specs for view in spec.all_sources))
    probed = dict.fromkeys([*views, redshift_views.READABLE_IF_PROVISIONED, SERVERLESS_VIEW, NODES_VIEW])
    refusals = {view: error for view in probed if (error := refusal(session, view))}
    login = redshift.settings
    serverless = isinstance(login, IamServerlessLogin) or "-serverless." in (login.host or "")
    if redshift_views.READABLE_IF_PROVISIONED not in refusals:
        kind = "provisioned"
    elif SERVERLESS_VIEW not in refusals or serverless:
        kind = "Serverless"
    elif refusals[SERVERLESS_VIEW].sqlstate == UNDEFINED_TABLE:
        kind = "Multi-AZ"
    else:
        kind = "Serverless or Multi-AZ"
    nodes = None if NODES_VIEW in refusals else session.rows(f"SELECT COUNT(*) FROM {NODES_VIEW}")[0][0]
    return Cluster(kind, nodes, read_catalog(session, views), refusals, find_privileges(session))


def _kind(cluster: Cluster) -> str:
    if cluster.kind == "provisioned":
        return f"provisioned, {cluster.nodes} node(s)" if cluster.nodes else "provisioned"
    return f"{cluster.kind}: SYS views replace STL and STV views"


def _active_hours(interval: int, prefix: str) -> str:
    """Estimate how long a day syncs keep a workgroup of Serverless active, and say which setting lowers it.

    https://docs.aws.amazon.com/redshift/latest/mgmt/serverless-billing.html: each query is billed for at least a
    minute.
    """
    hours = {seconds: min(24.0, 86400 / seconds * 60 / 3600) for seconds in (interval, HOUR)}
    text = f"at least {hours[interval]:.1f} a day: a sync every {interval} s, each billed for a minute or more"
    if interval >= HOUR:
        return text
    return f"{text}; {prefix}_SYNC_INTERVAL={HOUR} lowers it to {hours[HOUR]:.1f}"


def _visible_rows(cluster: Cluster) -> Finding:
    user = cluster.privileges.user
    who = f"{user} ({cluster.privileges})"
    if cluster.privileges.sees_all_rows:
        return _finding("rows", f"{who} sees the rows of all users")
    detail = f"{who} sees only the rows of its own queries; Redshift reports no error"
    return _finding("rows", detail, f"As a superuser: {grant_all_rows(user)}")


def _needed_views(spec: SyncSpec, cluster: Cluster) -> Iterator[str]:
    """Yield the views of the variant that is read, and of the preferred ones before it."""
    for variant in spec.variants:
        yield from variant.sources
        if variant is _readable_variant(spec, cluster):
            return


def _readable_variant(spec: SyncSpec, cluster: Cluster) -> Variant | None:
    return next((v for v in spec.variants if not cluster.refusals.keys() & set(v.sources)), None)


def _view(view: str, cluster: Cluster, needed: bool) -> Finding:
    what = f"view {view}"
    error = cluster.refusals.get(view)
    if error is None:
        own = redshift_views.shows_own_rows([view]) and not cluster.privileges.sees_all_rows
        return _finding(what, f"readable, {'own rows only' if own else 'all rows'}")
    if cluster.lacks(view):
        return _finding(what, f"not on {cluster.kind}")
    is_forbidden = error.sqlstate == INSUFFICIENT_PRIVILEGE
    detail = "not readable" if is_forbidden else "does not exist"
    if not needed or (view in redshift_views.UNDOCUMENTED and not is_forbidden):
        return _finding(what, f"{detail}, not needed")
    if is_forbidden:
        grant = grant_select([view], cluster.privileges.user)
        return _finding(what, detail, f"As a superuser: {grant}")
    return _finding(what, detail, f"{_UPDATE}: this view is missing.")


def _job(spec: SyncSpec, cluster: Cluster) -> Finding:
    what = f"job {spec.sync_job_id}"
    variant = _readable_variant(spec, cluster)
    if variant is None:
        views = spec.all_sources
        if all(cluster.lacks(view) for view in views):
            return _finding(what, f"unavailable on {cluster.kind}")
        return _finding(what, "nothing to read", f"See above: {', '.join(views)}.")
    try:
        missing = sorted(missing_columns(spec, variant, cluster.catalog))
    except SyncError as error:
        return _finding(what, f"from {variant.name}", str(error))
    names = ", ".join(f"{view}.{name}" for view, name in missing)
    remedy = f"{_UPDATE}: it lacks {names}, which is NULL until then." if names else None
    return _finding(what, f"from {variant.name}", remedy)
