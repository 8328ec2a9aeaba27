"""Reads a sync job's table from the first source variant that a cluster has and lets the user read.

Clusters differ: Serverless and Multi-AZ have no STL and STV views, users may not read all views, and patch
levels differ in columns. See docs/reference/redshift.md.
"""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime

from qupersync_assets.core.errors import INSUFFICIENT_PRIVILEGE, REFUSED, ErrorClass, SyncError
from qupersync_assets.redshift.catalog import Catalog, missing_columns, narrow_columns, new_columns, read_catalog
from qupersync_assets.redshift.prefetch import prefetch
from qupersync_assets.redshift.privileges import Privileges, find_privileges, grant_all_rows, grant_select
from qupersync_assets.redshift.query_text import QueryText, protect
from qupersync_assets.redshift.resource import RedshiftResource
from qupersync_assets.redshift.session import Session
from qupersync_assets.rows.page import AnyPage, Pages
from qupersync_assets.rows.source_read import RowVisibility, SourceRead, SourceUnavailable
from qupersync_assets.spec import ReadMode, SyncSpec, Variant, Window, select_statement
from qupersync_assets.spec.redshift_views import READABLE_IF_PROVISIONED, needs_provisioned, shows_own_rows


@dataclass(frozen=True)
class RedshiftSource:
    """The source of one sync job in one cluster.

    Attributes:
        redshift: the cluster.
        spec: the sync job.
        page_size: rows per page.
        query_text: how texts of statements are read: see `query_text.protect`.
        include_own_queries: also read QuperSync's own queries.
    """

    redshift: RedshiftResource
    spec: SyncSpec
    page_size: int
    query_text: QueryText = "full"
    include_own_queries: bool = False

    @contextmanager
    def open(self, window: Window) -> Iterator[SourceRead]:
        """Choose the variant, read its first page, and prefetch the others in a thread.

        Raises:
            SourceUnavailable: the cluster has no variant.
            SyncError: Redshift cannot be reached, the connection fails, or the user may not read a variant
                that the cluster has.
        """
        with self.redshift.session() as session:
            read = _VariantChoice(self, session, window).first_readable()
            pages = protect(self.spec, read.pages, self.query_text)
            with closing(prefetch(pages, session.cut_off)) as prefetched:
                yield replace(read, pages=prefetched)


class _VariantChoice:
    """Tries the variants of a job in the order of preference."""

    def __init__(self, source: RedshiftSource, session: Session, window: Window) -> None:
        self._source = source
        self._spec = source.spec
        self._session = session
        self._window = window
        self._passed_over: list[str] = []
        self._forbidden: list[Variant] = []
        self._privileges: Privileges | None = None

    def first_readable(self) -> SourceRead:
        catalog = read_catalog(self._session, self._spec.all_sources)
        read_to = self._session.clock()
        listed = [variant for variant in self._spec.variants if catalog.keys() >= set(variant.sources)]
        # A view may exist although the catalog does not list it: only an error proves that it does not.
        for variant in self._spec.variants:
            if listed and variant not in listed:
                absent = [view for view in variant.sources if view not in catalog]
                self._passed_over.append(f"there is no {' and no '.join(absent)}")
                continue
            if read := self._read(variant, catalog, read_to):
                return read
        if granted := [v for v in self._forbidden if not self._is_withheld(v)]:
            raise self._not_granted(granted[0])
        raise SourceUnavailable(
            f"This cluster has no source for {self._spec.table.fullname}: {'; '.join(self._passed_over)}."
        )

    def _read(self, variant: Variant, catalog: Catalog, read_to: datetime) -> SourceRead | None:
        """Read the first page; return None if the cluster refuses the variant."""
        missing = missing_columns(self._spec, variant, catalog)
        names = tuple(f"{view}.{name}" for view, name in sorted(missing))
        window = self._window
        if window.mode is ReadMode.INCREMENTAL and window.known_from != (variant.name, names):
            window = Window(ReadMode.FULL, "the source is not that of the last sync")
        statement = select_statement(
            self._spec, variant, missing, window, self._source.include_own_queries, narrow_columns(variant, catalog)
        )
        visibility = self._visibility(variant)
        pages = self._session.pages(statement, self._source.page_size)
        try:
            first = next(pages, None)
        except SyncError as error:
            if error.sqlstate not in REFUSED:
                raise
            self._passed_over.append(error.server_message)
            if error.sqlstate == INSUFFICIENT_PRIVILEGE:
                self._forbidden.append(variant)
            return None
        return SourceRead(
            variant.name,
            window,
            read_to,
            statement,
            _prepended(first, pages),
            names,
            tuple(new_columns(variant, catalog)),
            tuple(self._passed_over),
            visibility,
        )

    def _visibility(self, variant: Variant) -> RowVisibility | None:
        views = tuple(shows_own_rows(variant.sources))
        if not views:
            return None
        privileges = self._find_privileges()
        user = privileges.user
        return RowVisibility(user, str(privileges), views, privileges.sees_all_rows, grant_all_rows(user))

    def _find_privileges(self) -> Privileges:
        if self._privileges is None:
            self._privileges = find_privileges(self._session)
        return self._privileges

    def _is_withheld(self, variant: Variant) -> bool:
        """Return whether this kind of cluster refuses a variant to every user, whatever the grants."""
        if self._find_privileges().superuser:
            return True  # a superuser cannot be granted anything more
        if not any(map(needs_provisioned, variant.sources)):
            return False
        # A missing grant and a kind of cluster without the view give the same SQLSTATE.
        return refusal(self._session, READABLE_IF_PROVISIONED) is not None

    def _not_granted(self, variant: Variant) -> SyncError:
        user = self._find_privileges().user
        return SyncError(
            f"{user} may not read {variant.name} (SQLSTATE {INSUFFICIENT_PRIVILEGE}). As a superuser of that "
            f"database: {grant_select(variant.sources, user)}",
            ErrorClass.FATAL,
            INSUFFICIENT_PRIVILEGE,
        )


def _prepended(first: AnyPage | None, pages: Pages) -> Pages:
    with closing(pages):
        if first is not None:
            yield first
            del first  # only one page is kept in memory
            yield from pages


def refusal(session: Session, view: str) -> SyncError | None:
    """Return the error with which Redshift refuses to read a view; None if the view can be read.

    Raises:
        SyncError: reading failed for another reason than a missing view or privilege.
    """
    try:
        session.rows(f"SELECT 1 FROM {view} LIMIT 1")
    except SyncError as error:
        if error.sqlstate not in REFUSED:
            raise
        return error
    return None
