"""Checks of the databases of a cluster that REDSHIFT_DATABASES names, other than that of the login."""

from collections.abc import Iterator, Sequence
from functools import partial

from qupersync_assets.core.errors import INSUFFICIENT_PRIVILEGE, SyncError
from qupersync_assets.core.redaction import redact
from qupersync_assets.doctor.report import Finding
from qupersync_assets.redshift.databases import find_databases
from qupersync_assets.redshift.privileges import grant_connect, grant_select
from qupersync_assets.redshift.resource import RedshiftResource
from qupersync_assets.redshift.source import refusal
from qupersync_assets.spec import SyncSpec

_finding = partial(Finding, "redshift")


def examine(redshift: RedshiftResource, specs: Sequence[SyncSpec], user: str) -> Iterator[Finding]:
    """Yield one finding for each database: whether the user may connect, and read the views that are read there."""
    views = list(dict.fromkeys(view for spec in specs if spec.database_column for view in spec.all_sources))
    with redshift.session() as session:
        databases = find_databases(session)
    for name in databases.chosen(redshift.settings.databases) if views else ():
        if name not in databases.existing:
            remedy = f"Remove it from {redshift.settings.prefix}_DATABASES, or correct the name."
            yield _finding(f"database {name}", "does not exist", remedy)
        elif name != databases.current:
            yield _database(redshift, name, views, user)


def _database(redshift: RedshiftResource, name: str, views: Sequence[str], user: str) -> Finding:
    what = f"database {name}"
    try:
        with redshift.session(name) as session:
            refused = [view for view in views if refusal(session, view)]
    except SyncError as error:
        is_refused = error.sqlstate == INSUFFICIENT_PRIVILEGE
        remedy = f"As a superuser: {grant_connect(name, user)}" if is_refused else redact(str(error))
        return _finding(what, "no connection", remedy)
    if refused:
        grant = f"As a superuser, connected to that database: {grant_select(refused, user)}"
        return _finding(what, f"{', '.join(refused)} not readable", grant)
    return _finding(what, f"readable: {', '.join(views)}")
