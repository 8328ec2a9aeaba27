"""The statements that merge a batch from its temporary table into the target, made from a job's table.

https://www.postgresql.org/docs/current/sql-insert.html#SQL-ON-CONFLICT. It refuses to touch a row twice,
hence the DISTINCT ON; and writes only rows that differ, hence the WHERE. Rows are written in the order of
their keys, as all writers do it, lest two lock each other out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from qupersync_assets.core.sql import quote_identifier as quote
from qupersync_assets.postgres.staging import Staging
from qupersync_assets.spec import SyncSpec


def merge_statement(spec: SyncSpec, staging: Staging) -> str:
    """The statement that merges the temporary table into the target.

    Its parameter is `cluster`; it returns one row: distinct keys, NULL if all keys are distinct; rows
    inserted; rows updated; whether there is a doubt, and nothing is written.

    Args:
        pass_over: look first which rows would change nothing. ON CONFLICT locks each row that it finds, which
            takes longer where most of them are known.
    """
    # A key column that PostgreSQL computes is not in the temporary table, but what it is computed from is.
    keys = ", ".join(
        quote(c.name) if c.computed is None else str(c.computed.sqltext)
        for c in spec.key
        if c.name != "cluster"
    )
    if staging.is_numbered:
        doubt, distinct = "false", "(SELECT count(*) FROM picked)"
        picked = f"SELECT DISTINCT ON ({keys}) {_names(spec)} FROM {staging.name} ORDER BY {keys}, _row DESC"
    else:
        values = ", ".join(f"{staging.values[c.name]} AS {quote(c.name)}" for c in spec.columns)
        typed = f"(SELECT {values}, {staging.needs_coercion} AS _doubt FROM {staging.name}) AS typed"
        is_found = f"coalesce(bool_or(_doubt), false) OR count(*) <> count(DISTINCT ({keys}))"
        doubt, distinct = f"(SELECT {is_found} FROM {typed})", "NULL"
        # ON CONFLICT locks each row that it finds, which takes longer than to look first.
        news = f" AND {_is_news(spec, 'typed')}" if _can_pass_over(spec) else ""
        picked = (
            f"SELECT {_names(spec)} FROM {typed} WHERE NOT (SELECT found FROM doubt){news} ORDER BY {keys}"
        )
    merged = {name: _merged(c, "excluded") for name, c in _changing(spec).items()}
    merged["synced_at"] = "now()"
    if spec.kind == "snapshot":
        merged["removed_at"] = "NULL"
    return f"""
WITH doubt AS MATERIALIZED (
    SELECT {doubt} AS found
), picked AS (
    {picked}
), merged AS (
    INSERT INTO {spec.table.fullname} AS t (cluster, {_names(spec)})
    SELECT :cluster, {_names(spec)} FROM picked
    ON CONFLICT ({", ".join(quote(c.name) for c in spec.key)}) DO UPDATE
    SET {", ".join(f"{name} = {value}" for name, value in merged.items())}
    WHERE {_changes(spec, "excluded")}
    RETURNING t.xmax = 0 AS inserted
)
SELECT {distinct}, count(*) FILTER (WHERE inserted), count(*) FILTER (WHERE NOT inserted),
       (SELECT found FROM doubt)
FROM merged"""


def _changes(spec: SyncSpec, source: str) -> str:
    """Whether the row `t` of the target changes when a row of `source` is merged into it."""
    merged = {name: _merged(c, source) for name, c in _changing(spec).items()}
    differs = f"({', '.join(f't.{name}' for name in merged)}) IS DISTINCT FROM ({', '.join(merged.values())})"
    if spec.kind == "snapshot":
        differs = f"({differs} OR t.removed_at IS NOT NULL)"
    if spec.version_column:
        stamp = quote(spec.version_column)
        differs += f"\n      AND (t.{stamp} IS NULL OR {source}.{stamp} >= t.{stamp})"
    return differs


def _can_pass_over(spec: SyncSpec) -> bool:
    return all(c.computed is None for c in spec.key)


def _is_news(spec: SyncSpec, source: str) -> str:
    """Whether a row of `source` is new to the target or changes it; looked up by the key, row by row."""
    names = [quote(c.name) for c in spec.key if c.name != "cluster"]
    # OFFSET keeps the planner from a join with all of the target.
    return (
        f"NOT EXISTS (SELECT FROM {spec.table.fullname} AS t WHERE t.cluster = :cluster "
        f"AND {_equal('t', source, names)} AND NOT ({_changes(spec, source)}) OFFSET 0)"
    )


def _changing(spec: SyncSpec) -> dict[str, sa.Column[Any]]:
    key_names = {c.name for c in spec.key}
    return {quote(c.name): c for c in spec.columns if c.name not in key_names}


def remember_statements(spec: SyncSpec, staging: Staging) -> list[str]:
    """What notes the keys of a snapshot's batch in a temporary table, as long-lived as the session."""
    keys = [c.name for c in spec.key if c.name != "cluster"]
    names = ", ".join(map(quote, keys))
    values = ", ".join(staging.values[key] for key in keys)
    return [
        f"CREATE TEMPORARY TABLE IF NOT EXISTS {_seen(spec)} AS "
        f"SELECT {names} FROM {spec.table.fullname} WITH NO DATA",
        f"INSERT INTO {_seen(spec)} SELECT {values} FROM {staging.name}",
    ]


def removal_statement(spec: SyncSpec) -> str:
    """The statement that marks the rows of a snapshot that no batch has held; its parameter is `cluster`."""
    names = [quote(c.name) for c in spec.key if c.name != "cluster"]
    present_where = f" AND NOT {spec.present_where}" if spec.present_where else ""
    return f"""
UPDATE {spec.table.fullname} AS u SET removed_at = now()
FROM (
    SELECT {", ".join(names)} FROM {spec.table.fullname} AS t
    WHERE t.cluster = :cluster AND t.removed_at IS NULL
      AND NOT EXISTS (SELECT FROM {_seen(spec)} s WHERE {_equal("s", "t", names)}){present_where}
    ORDER BY {", ".join(names)} FOR UPDATE
) AS gone
WHERE u.cluster = :cluster AND {_equal("u", "gone", names)}"""


def _equal(left: str, right: str, names: Sequence[str]) -> str:
    return " AND ".join(f"{left}.{name} = {right}.{name}" for name in names)


def _merged(column: sa.Column[Any], source: str) -> str:
    name = quote(column.name)
    merge = column.info["merge"]
    return f"{source}.{name}" if merge == "replace" else f"{merge}(t.{name}, {source}.{name})"


def _seen(spec: SyncSpec) -> str:
    return f"seen_{spec.table.name}"


def _names(spec: SyncSpec) -> str:
    return ", ".join(quote(c.name) for c in spec.columns)
