"""The databases of a cluster, and a source that reads one after the other, each over its own connection.

svv_table_info, svv_columns and the pg_ catalogs show the connected database alone; see docs/reference/redshift.md.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from qupersync_assets.core.errors import INSUFFICIENT_PRIVILEGE, UNDEFINED_TABLE, SyncError
from qupersync_assets.redshift.catalog import current_database
from qupersync_assets.redshift.session import Session
from qupersync_assets.redshift.source import RedshiftSource
from qupersync_assets.rows.source_read import PartFailure, SourceParts, SyncSource

ALL = "*"
_EXISTING = "SELECT datname::varchar(128), datistemplate, datallowconn FROM pg_database ORDER BY datname"
# Databases of datashares, and catalogs that Redshift mounts by itself.
_NOT_LOCAL = "SELECT database_name FROM svv_redshift_databases WHERE database_type <> 'local'"
# Not documented; every cluster has it, and AWS alone uses it.
_INTERNAL = "padb_harvest"


@dataclass(frozen=True)
class Databases:
    """The databases of a cluster: the connected one, all that exist, and those that can hold tables of users."""

    current: str
    existing: frozenset[str]
    local: tuple[str, ...]

    def chosen(self, names: str | None) -> Sequence[str]:
        """Return the databases that REDSHIFT_DATABASES chooses, whether they exist or not."""
        if names is None:
            return [self.current]
        return self.local if names == ALL else list(dict.fromkeys(names.split(",")))


def find_databases(session: Session) -> Databases:
    """Return the databases of the session's cluster."""
    found = session.rows(_EXISTING)
    try:
        excluded = {name for (name,) in session.rows(_NOT_LOCAL)} | {_INTERNAL}
    except SyncError as error:  # the view is of 2020
        if error.sqlstate not in (UNDEFINED_TABLE, INSUFFICIENT_PRIVILEGE):
            raise
        excluded = {_INTERNAL}
    local = tuple(n for n, template, allowed in found if allowed and not template and n not in excluded)
    return Databases(current_database(session), frozenset(name for name, _, _ in found), local)


@dataclass(frozen=True)
class DatabasesSource:
    """The source of a job whose views show the connected database alone."""

    source: RedshiftSource

    def parts(self) -> SourceParts:
        """Find the databases over the main connection; it opens none of them."""
        redshift = self.source.redshift
        with redshift.session() as session:
            databases = find_databases(session)
        sources: dict[str, SyncSource] = {}
        failures = []
        for name in databases.chosen(redshift.settings.databases):
            if name == databases.current:
                sources[name] = self.source
            elif name in databases.existing:
                sources[name] = replace(self.source, database=name)
            else:
                failures.append(PartFailure(name, f"The cluster has no database {name}."))
        return SourceParts(sources, tuple(failures), databases.existing)
