"""The documented types of the columns of a Redshift statement, and the PostgreSQL types that fit them."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import sqlalchemy as sa
import sqlglot
from sqlglot import exp
from sqlglot.optimizer.annotate_types import annotate_types
from sqlglot.optimizer.qualify import qualify
from sqlglot.optimizer.scope import traverse_scope
from sqlglot.schema import MappingSchema

from qupersync_assets.spec.redshift_views import UNDOCUMENTED, column_types, documented_views

_COLUMNS: dict[str, Any] = {view: column_types(view) for view in [*documented_views(), *UNDOCUMENTED]} | {
    "pg_class": {"oid": "oid", "relname": "name", "relnamespace": "oid", "relkind": '"char"'},
    "pg_namespace": {"oid": "oid", "nspname": "name"},
    "pg_user": {"usename": "name", "usesysid": "integer"},
}
SCHEMA = MappingSchema(_COLUMNS, dialect="redshift")
# Result types of functions that sqlglot does not know.
RESULTS = {"date_trunc": "timestamp", "format_encoding": "text"}


@cache
def parsed(statement: str) -> exp.Query:
    """Return a statement with the type of each expression; fail if a view or column is not documented."""
    query = sqlglot.parse_one(statement, read="redshift").transform(_with_result)
    qualified = qualify(query, schema=SCHEMA, dialect="redshift", validate_qualify_columns=True)
    typed = annotate_types(qualified, schema=SCHEMA, dialect="redshift")
    assert isinstance(typed, exp.Query)
    return typed


def _with_result(node: exp.Expr) -> exp.Expr:
    name = node.sql(dialect="redshift").partition("(")[0].lower() if isinstance(node, exp.Func) else ""
    return exp.cast(node, RESULTS[name]) if name in RESULTS else node


def columns_read(query: exp.Query) -> set[tuple[str, str]]:
    """Return (view, column) of each source column of a parsed statement."""
    return {
        (source.name, column.name)
        for scope in traverse_scope(query)
        for column in scope.columns
        if isinstance(source := scope.sources.get(column.table), exp.Table)
    }


def delivered(query: exp.Query) -> dict[str, str]:
    """Return the type of each column of a parsed statement, by label."""
    return {select.alias: _type(select) for select in query.selects}


def _type(select: exp.Expr) -> str:
    value = select.unalias()
    type_ = str(value.type.sql("redshift")).lower() if value.type else "unknown"
    if isinstance(value, exp.Sum) and type_ == "bigint":
        # https://docs.aws.amazon.com/redshift/latest/dg/r_SUM.html, the sum of bigints; that of integers is a bigint.
        return "numeric(38,0)" if value.this.type.is_type("bigint") else type_
    return type_.replace("decimal", "numeric").replace(", ", ",")


def is_whole(type_: str) -> bool:
    return type_ in ("smallint", "int", "integer", "bigint", "oid")


def holds(target: sa.types.TypeEngine[Any], documented: str) -> bool:
    """Return whether the column type stores each value of the documented type exactly."""
    if documented in ("smallint", "int", "integer"):
        return isinstance(target, sa.Integer)
    if documented in ("bigint", "oid"):
        return isinstance(target, sa.BigInteger)
    if numeric := re.fullmatch(r"numeric\((\d+),(\d+)\)", documented):
        precision, scale = map(int, numeric.groups())
        return (
            isinstance(target, sa.Numeric)
            and not isinstance(target, sa.Float)
            and (target.scale or 0) >= scale
            and (target.precision or 1000) - (target.scale or 0) >= precision - scale
        )
    if documented.startswith("timestamp"):
        return isinstance(target, sa.DateTime) and target.timezone
    if documented == "double precision":
        return isinstance(target, sa.Double)
    if documented == "boolean":
        return isinstance(target, sa.Boolean)
    if re.match(r"text|name|char|varchar", documented):
        return isinstance(target, sa.Text) and target.length is None
    raise AssertionError(f"no rule for {documented}")
