"""quper.column_stats: columns with their compression and keys, from svv_columns and pg_attribute."""

from typing import Any

from sqlalchemy import BigInteger, Boolean, Column, Integer, Text

from qupersync_assets.spec import ColumnType, Sensitive, SyncSpec, column, quper_table


def _from_svv(name: str, type_: ColumnType, comment: str, sensitive: Sensitive | None = None) -> Column[Any]:
    return column(name, type_, comment, sql=f'c."{name}"', sensitive=sensitive)


def _from_attribute(name: str, type_: ColumnType, comment: str, name_there: str, sql: str = "") -> Column[Any]:
    return column(name, type_, comment, f"pg_attribute.{name_there}", sql or f"a.{name_there}")


SPEC = SyncSpec(
    sync_job_id="column_stats_sync",
    table=quper_table(
        "column_stats",
        _from_svv("table_catalog", Text, "database"),
        _from_svv("table_schema", Text, "schema"),
        _from_svv("table_name", Text, "table or view"),
        _from_svv("column_name", Text, "column"),
        _from_svv("ordinal_position", Integer, "position of the column in its table, from 1"),
        # A default may contain values of rows; a remark (below) is written for readers.
        _from_svv("column_default", Text, "default expression", sensitive="sql"),
        _from_svv("is_nullable", Text, "YES or NO"),
        _from_svv("data_type", Text, "type"),
        _from_svv("character_maximum_length", Integer, "length of a character type"),
        _from_svv("numeric_precision", Integer, "precision of a numeric type"),
        _from_svv("numeric_precision_radix", Integer, "radix of that precision"),
        _from_svv("numeric_scale", Integer, "scale of a numeric type"),
        _from_svv("datetime_precision", Integer, "precision of a date or time type"),
        _from_svv("interval_type", Text, "fields of an interval type"),
        _from_svv("interval_precision", Text, "precision of an interval type"),
        _from_svv("character_set_catalog", Text, "character set: catalog"),
        _from_svv("character_set_schema", Text, "character set: schema"),
        _from_svv("character_set_name", Text, "character set: name"),
        _from_svv("collation_catalog", Text, "collation: catalog"),
        _from_svv("collation_schema", Text, "collation: schema"),
        _from_svv("collation_name", Text, "collation: name"),
        _from_svv("domain_name", Text, "domain"),
        _from_svv("remarks", Text, "comment on the column"),
        _from_attribute(
            "table_id", BigInteger, "table OID; NULL for a late-binding view", "attrelid", "a.attrelid::bigint"
        ),
        _from_attribute(
            "encoding", Text, "compression encoding", "attencodingtype", "format_encoding(a.attencodingtype::integer)"
        ),
        _from_attribute("distkey", Boolean, "whether the column is the distribution key", "attisdistkey"),
        _from_attribute(
            "sortkey",
            Integer,
            "position in the sort key, 0: none; signs alternate in an interleaved key",
            "attsortkeyord",
        ),
        _from_attribute("not_null", Boolean, "whether the column is NOT NULL", "attnotnull"),
        key=("table_catalog", "table_schema", "table_name", "column_name"),
        comment="Columns as svv_columns shows them, with compression and keys of pg_attribute.",
        indexes=[("table_id",)],
    ),
    kind="snapshot",
    database_column="table_catalog",
    description="Every column: type, compression, distribution key, sort key position, NOT NULL.",
    sources=("svv_columns", "pg_attribute"),
    needs=("pg_attribute.attname", "pg_attribute.attnum", "pg_attribute.attisdropped"),
    # Joined by name: svv_columns has no OID, and its positions differ from attnum after a DROP COLUMN.
    from_clause="""
FROM svv_columns c
LEFT JOIN (
    SELECT n.nspname::varchar(128) AS schema_name, r.relname::varchar(128) AS table_name,
           t.attname::varchar(128) AS column_name, t.attrelid, t.attencodingtype, t.attisdistkey,
           t.attsortkeyord, t.attnotnull
    FROM pg_attribute t
    JOIN pg_class r ON r.oid = t.attrelid
    JOIN pg_namespace n ON n.oid = r.relnamespace
    WHERE t.attnum > 0 AND NOT t.attisdropped
) a ON a.schema_name = c.table_schema AND a.table_name = c.table_name AND a.column_name = c.column_name
WHERE COALESCE(c.table_schema, '') NOT IN ('information_schema', 'pg_catalog', 'pg_internal')""",
)
