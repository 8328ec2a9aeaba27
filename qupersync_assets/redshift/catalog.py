"""Which views and columns a cluster has."""

from collections.abc import Mapping

from qupersync_assets.core.errors import UNDEFINED_COLUMN, ErrorClass, SyncError
from qupersync_assets.redshift.session import Session
from qupersync_assets.spec import SyncSpec, Variant
from qupersync_assets.spec.redshift_views import column_types

# By view and column: whether it is an integer of fewer than 64 bits. The catalog may list no columns.
Catalog = Mapping[str, Mapping[str, bool]]


def current_database(session: Session) -> str:
    """Return the name of the connected database."""
    name: str = session.rows("SELECT current_database()::varchar(128)")[0][0]
    return name


def catalog_statement(views: list[str]) -> str:
    """Return the query for the columns of those `views` that exist anywhere in the search path."""
    names = ", ".join(f"'{view}'" for view in views)
    return f"""
SELECT c.relname::varchar(128), a.attname::varchar(128), a.atttypid IN (21, 23)
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE c.relname IN ({names}) AND (n.nspname = 'pg_catalog' OR pg_table_is_visible(c.oid))"""


def read_catalog(session: Session, views: list[str]) -> Catalog:
    """Return the views that the catalog lists; it lists no columns of a late-binding view."""
    columns: dict[str, dict[str, bool]] = {}
    for view, column, is_narrow in session.rows(catalog_statement(views)):
        columns.setdefault(view, {}).update({column: is_narrow} if column else {})
    return columns


def missing_columns(spec: SyncSpec, variant: Variant, present: Catalog) -> set[tuple[str, str]]:
    """Return (view, column) of the columns that the cluster lacks, or raise SyncError if one of them is required."""
    absent = {view: names - present[view].keys() for view, names in variant.used_columns().items() if present.get(view)}
    missing = {(view, name) for view, names in absent.items() for name in names}
    if lost := sorted(missing & spec.required_columns(variant)):
        names = " and ".join(f"{view}.{name}" for view, name in lost)
        text = (
            f"This cluster has no column {names}, without which {spec.table.fullname} cannot be filled "
            f"(SQLSTATE {UNDEFINED_COLUMN}): this version of Redshift does not have it."
        )
        raise SyncError(text, ErrorClass.FATAL, UNDEFINED_COLUMN)
    return missing


def new_columns(variant: Variant, present: Catalog) -> list[str]:
    """Return `view.column` of columns that are not documented; PG catalogs are not compared."""
    return [
        f"{view}.{name}"
        for view in variant.sources
        if not view.startswith("pg_")
        for name in sorted(present.get(view, {}).keys() - column_types(view).keys())
    ]


def narrow_columns(variant: Variant, present: Catalog) -> set[tuple[str, str]]:
    """Return (view, column) of integers of fewer than 64 bits."""
    return {(view, name) for view in variant.sources for name, is_narrow in present.get(view, {}).items() if is_narrow}
