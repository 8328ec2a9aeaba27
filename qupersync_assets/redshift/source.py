"""Reads a sync job's table from the first source variant that a cluster has and lets the user read.

Clusters differ: Serverless and Multi-AZ have no STL and STV views, users may not read all views, and patch
levels differ in columns. See docs/reference/redshift.md.
"""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property

from qupersync_assets.core.errors import INSUFFICIENT_PRIVILEGE, REFUSED, ErrorClass, SyncError
from qupersync_assets.redshift.catalog import (
    Catalog,
    current_database,
    missing_columns,
    narrow_columns,
    new_columns,
    read_catalog,
)
from qupersync_assets.redshift.prefetch import prefetch
from qupersync_assets.redshift.privileges import Privileges, find_privileges, grant_all_rows, grant_select
from qupersync_assets.redshift.query_text import QueryText, protect
from qupersync_assets.redshift.resource import RedshiftResource
from qupersync_assets.redshift.session import Session
from qupersync_assets.redshift.time_slices import TimeSlices
from qupersync_assets.rows.page import AnyPage, Pages
from qupersync_assets.rows.source_read import RowVisibility, SourceRead, SourceUnavailable
from qupersync_assets.spec import RETENTION, ReadMode, SyncSpec, Variant, Window, read_since, select_statement
from qupersync_assets.spec.redshift_views import (
    READABLE_IF_PROVISIONED,
    needs_provisioned,
    needs_serverless,
    shows_own_rows,
)


@dataclass(frozen=True)
class RedshiftSource:
    """The source of one sync job in one cluster, or in one of its databases, read in pages of `page_size` rows."""

    redshift: RedshiftResource
    spec: SyncSpec
    page_size: int
    query_text: QueryText = "full"
    include_own_queries: bool = False
    database: str | None = None  # None: that of REDSHIFT_DATABASE

    @contextmanager
    def open(self, window: Window) -> Iterator[SourceRead]:
        """Choose the variant, read its first page, and prefetch the others in a thread.

        The user may lack a privilege on a variant that the cluster has: this is a SyncError, not SourceUnavailable.
        """
        with self.redshift.session(self.database) as session:
            read = _VariantChoice(self, session, window).first_readable()
            pages = protect(self.spec, read.pages, self.query_text)
            with closing(prefetch(pages, session.cut_off)) as prefetched:
                yield replace(read, pages=prefetched)


@dataclass
class _VariantChoice:
    """Tries the variants of a job in the order of preference."""

    source: RedshiftSource
    session: Session
    window: Window
    passed_over: list[str] = field(default_factory=list)
    forbidden: list[Variant] = field(default_factory=list)

    @cached_property
    def database(self) -> str | None:
        return current_database(self.session) if self.source.spec.database_column else None

    @cached_property
    def privileges(self) -> Privileges:
        return find_privileges(self.session)

    def first_readable(self) -> SourceRead:
        spec = self.source.spec
        catalog = read_catalog(self.session, spec.all_sources)
        read_to = self.session.clock()
        listed = [variant for variant in spec.variants if catalog.keys() >= set(variant.sources)]
        # A view may exist although the catalog does not list it: only an error proves that it does not.
        for variant in spec.variants:
            if listed and variant not in listed:
                absent = [view for view in variant.sources if view not in catalog]
                self.passed_over.append(f"it does not have {' and '.join(absent)}")
                continue
            if read := self._read(variant, catalog, read_to):
                return read
        for variant in self.forbidden:
            if not self._is_withheld(variant):
                user = self.privileges.user
                denied = tuple(view for view in variant.sources if refusal(self.session, view)) or variant.sources
                text = f"{user} may not read {', '.join(denied)} (SQLSTATE {INSUFFICIENT_PRIVILEGE})."
                remedy = f"As a superuser of that database: {grant_select(denied, user)}"
                raise SyncError(f"{text} {remedy}", ErrorClass.FATAL, INSUFFICIENT_PRIVILEGE)
        raise SourceUnavailable(f"This cluster has no source for {spec.table.fullname}: {'; '.join(self.passed_over)}.")

    def _read(self, variant: Variant, catalog: Catalog, read_to: datetime) -> SourceRead | None:
        """Read the first page; return None if the cluster refuses the variant."""
        missing = missing_columns(self.source.spec, variant, catalog)
        names = tuple(f"{view}.{name}" for view, name in sorted(missing))
        window = self.window
        if window.mode is ReadMode.INCREMENTAL and window.known_from not in (None, (variant.name, names)):
            window = window._replace(mode=ReadMode.FULL, reason="the source is not that of the last sync")
        own_queries, narrow = self.source.include_own_queries, narrow_columns(variant, catalog)
        statement = select_statement(self.source.spec, variant, missing, window, own_queries, narrow)
        visibility, database = self._visibility(variant), self.database
        pages = self.session.pages(statement, self.source.page_size, self._slices(window, read_to))
        try:
            first = next(pages, None)
        except SyncError as error:
            if error.sqlstate not in REFUSED:
                raise
            self.passed_over.append(error.server_message)
            if error.sqlstate == INSUFFICIENT_PRIVILEGE:
                self.forbidden.append(variant)
            return None
        why_empty = self._why_empty(variant, visibility, window) if first is None else ""
        if why_empty:
            window = window._replace(reason=f"{window.reason}; {why_empty}")
        return SourceRead(
            variant.name,
            window,
            read_to,
            statement,
            _prepended(first, pages),
            missing_columns=names,
            new_columns=tuple(new_columns(variant, catalog)),
            passed_over=tuple(self.passed_over),
            visibility=visibility,
            why_empty=why_empty,
            database=database,
        )

    def _slices(self, window: Window, read_to: datetime) -> TimeSlices | None:
        column = self.source.spec.time_column
        start = min(window.since or read_to, read_to - RETENTION)
        return TimeSlices(column, start, read_to) if column else None

    def _why_empty(self, variant: Variant, visibility: RowVisibility | None, window: Window) -> str:
        """Return why a full read of a history found no row: an idle cluster shows rows of before the read's start."""
        spec = self.source.spec
        if spec.time_column is None or window.mode is ReadMode.INCREMENTAL:
            return ""
        view, name = next(variant.located(variant.expressions[spec.time_column].reads))
        older = f'SELECT MAX("{name}")::timestamp FROM {view} WHERE "{name}" < {read_since(spec, window)}'
        newest = self.session.rows(older)[0][0]
        if newest is None:
            return f"{view} shows no older rows either"
        text = (
            f"the rows of {view} are older than {RETENTION.days} days, the newest is of {newest:%Y-%m-%d %H:%M:%S} UTC"
        )
        is_idle = visibility is None or visibility.sees_all_rows
        return text + (", since when the cluster was idle or paused" if is_idle else "")

    def _visibility(self, variant: Variant) -> RowVisibility | None:
        # The other views only complete the rows of the first one.
        views = tuple(shows_own_rows(variant.sources[:1]))
        if not views:
            return None
        user, sees_all = self.privileges.user, self.privileges.sees_all_rows
        return RowVisibility(user, str(self.privileges), views, sees_all, grant_all_rows(user))

    def _is_withheld(self, variant: Variant) -> bool:
        """Return whether this kind of cluster refuses a variant to every user, whatever the grants."""
        if self.privileges.superuser:
            return True  # a superuser cannot be granted anything more
        only_provisioned = any(map(needs_provisioned, variant.sources))
        only_serverless = any(map(needs_serverless, variant.sources))
        if not only_provisioned and not only_serverless:
            return False
        # A missing grant and a kind of cluster without the view give the same SQLSTATE.
        is_provisioned = refusal(self.session, READABLE_IF_PROVISIONED) is None
        return only_serverless if is_provisioned else only_provisioned


def _prepended(first: AnyPage | None, pages: Pages) -> Pages:
    with closing(pages):
        if first is not None:
            yield first
            del first  # only one page is kept in memory
            yield from pages


def refusal(session: Session, view: str) -> SyncError | None:
    """Return the error with which Redshift refuses to read a view, None if it can be read; raise any other error."""
    try:
        session.rows(f"SELECT 1 FROM {view} LIMIT 1")
    except SyncError as error:
        if error.sqlstate not in REFUSED:
            raise
        return error
    return None
