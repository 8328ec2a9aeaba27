"""The doctor's look at Redshift: login, version, clock, kind of cluster, rights, views, and the jobs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from qupersync_assets.core.errors import SyncError
from qupersync_assets.core.redaction import redact
from qupersync_assets.doctor.report import Finding, clock
from qupersync_assets.redshift.catalog import Catalog, missing_columns, read_catalog
from qupersync_assets.redshift.privileges import Privileges, find_privileges, grant_all_rows, grant_select
from qupersync_assets.redshift.resource import RedshiftResource
from qupersync_assets.redshift.session import Session
from qupersync_assets.redshift.source import refusal
from qupersync_assets.settings.redshift_login import IamServerlessLogin
from qupersync_assets.spec import SyncSpec, Variant
from qupersync_assets.spec.redshift_views import (
    READABLE_IF_PROVISIONED,
    UNDOCUMENTED,
    needs_provisioned,
    shows_own_rows,
)

# Every superuser may read it on Serverless.
OF_SERVERLESS = "sys_serverless_usage"
# One row a node, on provisioned clusters.
OF_NODES = "stv_node_storage_capacity"
_UPDATE = "Let the cluster take the next patch (its maintenance track and window)"


@dataclass(frozen=True)
class Cluster:
    """What the session could find out.

    Attributes:
        kind: provisioned, Serverless, Multi-AZ, or "Serverless or Multi-AZ".
        nodes: how many, None if it cannot be told.
        catalog: the columns of the views that the catalog shows.
        refusals: what reading a view ends with, by view; readable ones are not in it.
        rights: of our user.
    """

    kind: str
    nodes: int | None
    catalog: Catalog
    refusals: dict[str, SyncError]
    rights: Privileges

    def is_withheld(self, view: str) -> bool:
        """Whether this kind of cluster does not have the view for anybody."""
        return self.kind != "provisioned" and needs_provisioned(view)


def examine(redshift: RedshiftResource, specs: Sequence[SyncSpec], login: str) -> Iterator[Finding]:
    """All findings about Redshift; after a login that fails there is one only.

    Args:
        login: how one logs in, for the reader.
    """
    try:
        with redshift.session() as session:
            yield Finding("redshift", "login", login)
            yield from _server(session)
            cluster = _cluster(session, redshift, specs)
    except SyncError as error:
        yield Finding("redshift", "login", login, redact(str(error)))
        return
    yield Finding("redshift", "kind", _kind(cluster))
    yield _rights(cluster, specs)
    needed = {view for spec in specs for view in _needed(spec, cluster)}
    for view in dict.fromkeys(view for spec in specs for view in spec.all_sources):
        yield _view(view, cluster, view in needed)
    for spec in specs:
        yield _job(spec, cluster)


def _server(session: Session) -> Iterator[Finding]:
    version = str(session.rows("SELECT version()")[0][0])
    number = re.search(r"Redshift ([\d.]+)", version)
    yield Finding("redshift", "version", number[1] if number else version)
    before = datetime.now(UTC)
    theirs = session.clock()
    after = datetime.now(UTC)
    yield clock(
        "redshift",
        before,
        theirs,
        after,
        "Set this machine's clock (NTP): AWS keeps that of the cluster right.",
    )


def _cluster(session: Session, redshift: RedshiftResource, specs: Sequence[SyncSpec]) -> Cluster:
    views = list(dict.fromkeys(view for spec in specs for view in spec.all_sources))
    refusals = {}
    for view in dict.fromkeys([*views, READABLE_IF_PROVISIONED, OF_SERVERLESS, OF_NODES]):
        if error := refusal(session, view):
            refusals[view] = error
    login = redshift.settings
    serverless = isinstance(login, IamServerlessLogin) or "-serverless." in (login.host or "")
    if READABLE_IF_PROVISIONED not in refusals:
        kind = "provisioned"
    elif OF_SERVERLESS not in refusals or serverless:
        kind = "Serverless"
    elif refusals[OF_SERVERLESS].sqlstate == "42P01":
        kind = "Multi-AZ"
    else:
        kind = "Serverless or Multi-AZ"
    nodes = None
    if OF_NODES not in refusals:
        nodes = session.rows(f"SELECT COUNT(*) FROM {OF_NODES}")[0][0]
    return Cluster(kind, nodes, read_catalog(session, views), refusals, find_privileges(session))


def _kind(cluster: Cluster) -> str:
    if cluster.kind == "provisioned":
        return f"provisioned, {cluster.nodes} node(s)" if cluster.nodes else "provisioned"
    return f"{cluster.kind}: SYS views stand in for STL and STV views"


def _rights(cluster: Cluster, specs: Sequence[SyncSpec]) -> Finding:
    rights = cluster.rights
    if rights.sees_all_rows:
        return Finding("redshift", "rows", f"{rights.user} ({rights}) sees everybody's rows")
    return Finding(
        "redshift",
        "rows",
        f"{rights.user} ({rights}) sees only the rows of its own work, without any error",
        f"As a superuser: {grant_all_rows(rights.user)}",
    )


def _needed(spec: SyncSpec, cluster: Cluster) -> Iterator[str]:
    """The views of the variant that is read, and of those that would be preferred."""
    for variant in spec.variants:
        yield from variant.sources
        if variant is _chosen(spec, cluster):
            return


def _chosen(spec: SyncSpec, cluster: Cluster) -> Variant | None:
    return next((v for v in spec.variants if not cluster.refusals.keys() & set(v.sources)), None)


def _view(view: str, cluster: Cluster, needed: bool) -> Finding:
    what = f"view {view}"
    error = cluster.refusals.get(view)
    if error is None:
        own = shows_own_rows([view]) and not cluster.rights.sees_all_rows
        return Finding("redshift", what, f"readable, {'own rows only' if own else 'all rows'}")
    if cluster.is_withheld(view):
        return Finding("redshift", what, f"not on {cluster.kind}")
    is_forbidden = error.sqlstate == "42501"
    detail = "not readable" if is_forbidden else "not there"
    if not needed or (view in UNDOCUMENTED and not is_forbidden):
        return Finding("redshift", what, f"{detail}, not needed")
    if is_forbidden:
        return Finding(
            "redshift", what, detail, f"As a superuser: {grant_select([view], cluster.rights.user)}"
        )
    return Finding("redshift", what, detail, f"{_UPDATE}: it does not have this view yet.")


def _job(spec: SyncSpec, cluster: Cluster) -> Finding:
    what = f"job {spec.sync_job_id}"
    variant = _chosen(spec, cluster)
    if variant is None:
        views = spec.all_sources
        if all(cluster.is_withheld(view) for view in views):
            return Finding("redshift", what, f"unavailable on {cluster.kind}")
        return Finding("redshift", what, "nothing to read", f"See above: {', '.join(views)}.")
    try:
        missing = sorted(missing_columns(spec, variant, cluster.catalog))
    except SyncError as error:
        return Finding("redshift", what, f"from {variant.name}", str(error))
    if missing:
        names = ", ".join(f"{view}.{name}" for view, name in missing)
        return Finding(
            "redshift", what, f"from {variant.name}", f"{_UPDATE}: it lacks {names}; NULL until then."
        )
    return Finding("redshift", what, f"from {variant.name}")
