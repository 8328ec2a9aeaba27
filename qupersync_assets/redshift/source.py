"""Which variant of a job a cluster can give, and reading it.

Clusters differ: Serverless and Multi-AZ have no STL and STV views to read, users may not read all views, and
patch levels differ in columns. See docs/redshift.md.
"""

from __future__ import annotations

from collections.abc import Mapping

from qupersync_assets.core.errors import ErrorClass, LoadError
from qupersync_assets.redshift.privileges import find_rights, grant_select
from qupersync_assets.redshift.resource import RedshiftResource, Session
from qupersync_assets.redshift.wire_protocol import Pages
from qupersync_assets.rows.source_read import Source
from qupersync_assets.spec.redshift_views import (
    READABLE_IF_PROVISIONED,
    column_types,
    needs_provisioned,
    shows_own_rows,
)
from qupersync_assets.spec.sync_spec import SyncSpec, Variant, Window

# The columns of each view, by name, and whether they are integers of fewer than 64 bits; no columns if the
# catalog does not tell them.
Catalog = Mapping[str, Mapping[str, bool]]

# Not allowed to this user or not on this kind of cluster, not supported there, or gone.
REFUSED = ("42501", "0A000", "42P01")


class Unavailable(Exception):
    """A cluster has nothing from which a job could be filled; the text says why."""


def catalog_statement(views: list[str]) -> str:
    """The query for the columns of those `views` that exist, wherever in the search path they are."""
    names = ", ".join(f"'{view}'" for view in views)
    return f"""
SELECT c.relname::varchar(128), a.attname::varchar(128), a.atttypid IN (21, 23)
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE c.relname IN ({names}) AND (n.nspname = 'pg_catalog' OR pg_table_is_visible(c.oid))"""


def catalog(session: Session, views: list[str]) -> Catalog:
    """Those of the views that the catalog shows; of a late-binding view it does not show the columns."""
    columns: dict[str, dict[str, bool]] = {}
    for view, column, is_narrow in session.rows(catalog_statement(views)):
        columns.setdefault(view, {}).update({column: is_narrow} if column else {})
    return columns


def missing_columns(spec: SyncSpec, variant: Variant, present: Catalog) -> set[tuple[str, str]]:
    """(view, column) of what a variant uses and the cluster lacks.

    Raises:
        LoadError: the variant cannot do without one of them.
    """
    missing = {
        (view, name)
        for view, names in spec.used(variant).items()
        if present.get(view)
        for name in names - present[view].keys()
    }
    if lost := sorted(missing & spec.indispensable(variant)):
        names = " and ".join(f"{view}.{name}" for view, name in lost)
        raise LoadError(
            f"This cluster has no column {names}, without which {spec.table.fullname} cannot be filled "
            "(SQLSTATE 42703): its version differs from the documentation.",
            ErrorClass.FATAL,
            "42703",
        )
    return missing


def new_columns(variant: Variant, present: Catalog) -> list[str]:
    """`view.column` of what the views have beyond the documentation, which tells little of PG catalogs."""
    return [
        f"{view}.{name}"
        for view in variant.sources
        if not view.startswith("pg_")
        for name in sorted(present.get(view, {}).keys() - column_types(view).keys())
    ]


def narrow_columns(variant: Variant, present: Catalog) -> set[tuple[str, str]]:
    """(view, column) of integers of fewer than 64 bits."""
    return {
        (view, name)
        for view in variant.sources
        for name, is_narrow in present.get(view, {}).items()
        if is_narrow
    }


def read(redshift: RedshiftResource, spec: SyncSpec, size: int, source: Source, ours: bool = False) -> Pages:
    """The rows of the first variant that this cluster has and lets us read, in pages of `size` rows.

    Args:
        source: filled when the first page has come.
        ours: whether our own queries are wanted too.

    Raises:
        Unavailable: the cluster has no variant.
        LoadError: Redshift cannot be reached, breaks off, or lets us read no variant that it has.
    """
    forbidden: list[Variant] = []
    with redshift.session() as session:
        present = catalog(session, spec.all_sources)
        source.read_to = session.clock()
        found = [variant for variant in spec.variants if present.keys() >= set(variant.sources)]
        # What a catalog does not show may be there all the same: only a refusal proves that it is not.
        for variant in spec.variants:
            if found and variant not in found:
                absent = [view for view in variant.sources if view not in present]
                source.passed_over.append(f"there is no {' and no '.join(absent)}")
                continue
            missing = missing_columns(spec, variant, present)
            source.variant, source.missing = variant, [f"{view}.{name}" for view, name in sorted(missing)]
            window = source.window
            if window.since and window.known_from != (source.name, source.missing_names):
                window = Window("the source is another than before")
            statement = spec.statement(variant, missing, window, ours, narrow_columns(variant, present))
            if source.rights is None and shows_own_rows(variant.sources):
                source.rights = find_rights(session)
            pages = session.pages(statement, size)
            try:
                first = next(pages, None)
            except LoadError as error:
                if error.sqlstate not in REFUSED:
                    raise
                source.passed_over.append(error.said)
                if error.sqlstate == "42501":
                    forbidden.append(variant)
                continue
            source.window, source.statement = window, statement
            source.ignored = new_columns(variant, present)
            if first is not None:
                yield first
                yield from pages
            return
        source.variant, source.missing = None, []
        if granted := [v for v in forbidden if not _is_withheld(session, v)]:
            raise _not_granted(session, granted[0])
    source.unavailable = (
        f"This cluster has no source for {spec.table.fullname}: {'; '.join(source.passed_over)}."
    )
    raise Unavailable(source.unavailable)


def _is_withheld(session: Session, variant: Variant) -> bool:
    """Whether a variant that was forbidden is not on this kind of cluster, whatever the grants."""
    if find_rights(session).superuser:
        return True  # there is nothing that it could be granted
    if not any(map(needs_provisioned, variant.sources)):
        return False
    # A missing grant and a kind of cluster give the same 42501.
    return refusal(session, READABLE_IF_PROVISIONED) is not None


def refusal(session: Session, view: str) -> LoadError | None:
    """Why a view cannot be read, None if it can.

    Raises:
        LoadError: for another reason than that it is not there, or not for us.
    """
    try:
        session.rows(f"SELECT 1 FROM {view} LIMIT 1")
    except LoadError as error:
        if error.sqlstate not in REFUSED:
            raise
        return error
    return None


def _not_granted(session: Session, variant: Variant) -> LoadError:
    user = find_rights(session).user
    return LoadError(
        f"{user} may not read {variant.name} (SQLSTATE 42501). As a superuser of that database: "
        f"{grant_select(variant.sources, user)}",
        ErrorClass.FATAL,
        "42501",
    )
