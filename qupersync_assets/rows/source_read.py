"""The contract between source and target: a source is opened, read page by page, and closed."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, runtime_checkable

from qupersync_assets.rows.page import Pages
from qupersync_assets.spec import Window


class SourceUnavailable(Exception):
    """The cluster has no source for a table, or the settings choose none; the text says why."""

    def __init__(self, reason: str, *, is_chosen: bool = False) -> None:
        super().__init__(reason)
        self.is_chosen = is_chosen


@dataclass(frozen=True)
class RowVisibility:
    """Which rows of the source the login user sees, its privileges, and the SQL that lets it see all rows.

    `own_rows_views` show an ordinary user only the rows of its own work, or all rows if `sees_all_rows`.
    """

    user: str
    privileges: str
    own_rows_views: tuple[str, ...]
    sees_all_rows: bool
    grant: str


@dataclass(frozen=True)
class SourceRead:
    """One read of a source, complete when it is opened.

    Attributes:
        name: the views that are read, as quper.sync_logs names them.
        window: which rows are read. It is wider than requested if the source is not that of the last sync.
        read_to: the source's clock when the read began (UTC).
        statement: the SELECT statement.
        pages: the rows; read once.
        missing_columns: `view.column` of documented columns that the cluster lacks; they are read as NULL.
        new_columns: `view.column` of columns that are not documented; they are not read.
        passed_over: why preferred variants are not read, one sentence each.
        visibility: which rows the user sees; None if all users who may read the views see all rows.
        why_empty: why a full read of a history found no row.
        database: the database that the views show; None if they show the whole cluster.
    """

    name: str
    window: Window
    read_to: datetime
    statement: str
    pages: Pages
    missing_columns: tuple[str, ...] = ()
    new_columns: tuple[str, ...] = ()
    passed_over: tuple[str, ...] = ()
    visibility: RowVisibility | None = None
    why_empty: str = ""
    database: str | None = None


@dataclass(frozen=True)
class NoSource:
    """The source of a job that is off in a cluster: nothing is connected."""

    reason: str

    def open(self, window: Window) -> AbstractContextManager[SourceRead]:
        """Raise SourceUnavailable with the reason."""
        raise SourceUnavailable(self.reason, is_chosen=True)


class SyncSource(Protocol):
    """A source, or a part of one, that can be read once per load."""

    def open(self, window: Window) -> AbstractContextManager[SourceRead]:
        """Open the source until the context ends; SyncError means that it cannot be reached, or refuses the read."""


@dataclass(frozen=True)
class PartFailure:
    """A part of a source that was not read: its name, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class SourceParts:
    """The parts of a source.

    Attributes:
        sources: the parts, each a database, by their names.
        failures: parts that the settings name and that do not exist.
        existing: the names of all databases of the cluster; rows of others are of a database that was dropped.
    """

    sources: Mapping[str, SyncSource]
    failures: tuple[PartFailure, ...] = ()
    existing: frozenset[str] | None = None


@runtime_checkable
class PartedSource(Protocol):
    """A source whose parts are read one after the other; a part that fails does not affect the others."""

    def parts(self) -> SourceParts:
        """Find the parts; SyncError means that the cluster cannot be reached."""
