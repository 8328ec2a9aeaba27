"""The documented columns of Redshift's system views, and what PostgreSQL type holds which of their types."""

from __future__ import annotations

import re
from typing import Any

import sqlalchemy as sa

from qupersync_assets.sandbox.warehouse import documented_views

# Not documented by AWS; it shows the connections of this one.
ALIASES = {"svl_user_activity": "sys_connection_log"}


def columns(view: str) -> dict[str, str]:
    """Type by name, in lower case."""
    described = documented_views()[ALIASES.get(view, view)]["columns"]
    return {name.lower(): type_name.lower() for name, type_name in described}


def is_whole(documented: str) -> bool:
    return documented in ("smallint", "int", "integer", "bigint", "oid")


def computed_type(sql: str, documented: str) -> str:
    """The type of a Redshift expression over a column of that type.

    https://docs.aws.amazon.com/redshift/latest/dg/c_Aggregate_Functions.html
    """
    if sql.startswith("COUNT("):
        return "bigint"
    if sql.startswith("SUM("):
        return "numeric(38,0)" if documented == "bigint" else "bigint"
    return documented


def holds(target: sa.types.TypeEngine[Any], documented: str) -> bool:
    """Whether every value of the documented type fits the column type, exactly."""
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
    if documented == "boolean":
        return isinstance(target, sa.Boolean)
    if re.match(r"text|name|char|varchar", documented):
        return isinstance(target, sa.Text) and target.length is None
    raise AssertionError(f"no rule for {documented}")
