"""The statements that merge a batch from its staging table into the target table of a job.

https://www.postgresql.org/docs/current/sql-insert.html#SQL-ON-CONFLICT. The statement fails if a batch
has a key twice, hence DISTINCT ON. WHERE leaves out rows that do not differ. All writers write rows in the
order of their keys, so that they cannot deadlock.
"""

from collections.abc import Sequence

from qupersync_assets.core.sql import quote_identifier as quote
from qupersync_assets.postgres.staging import Staging
from qupersync_assets.spec import SyncSpec


def merge_statement(spec: SyncSpec, staging: Staging) -> str:
    """Return the statement that merges a staging table into the target; its parameter is `cluster`.

    It returns one row: the number of distinct keys, NULL if all keys are distinct; rows inserted; rows
    updated; whether the batch needs coercion, in which case nothing is written.
    """
    # The staging table lacks generated key columns, but has the columns of their expressions.
    keys = ", ".join(quote(c.name) if c.computed is None else str(c.computed.sqltext) for c in spec.source_key)
    if staging.is_numbered:
        needs_coercion, distinct = "false", "(SELECT count(*) FROM picked)"
        picked = f"SELECT DISTINCT ON ({keys}) {_names(spec)} FROM {staging.name} ORDER BY {keys}, _row DESC"
    else:
        values = ", ".join(f"{staging.values[c.name]} AS {quote(c.name)}" for c in spec.columns)
        typed = f"(SELECT {values}, {staging.needs_coercion} AS _invalid FROM {staging.name}) AS typed"
        found = f"coalesce(bool_or(_invalid), false) OR count(*) <> count(DISTINCT ({keys}))"
        needs_coercion, distinct = f"(SELECT {found} FROM {typed})", "NULL"
        condition = "NOT (SELECT needed FROM coercion)"
        if all(c.computed is None for c in spec.key):
            # ON CONFLICT locks each known row, which takes longer than to look the row up first.
            condition += f" AND {_differs_from_target(spec, 'typed')}"
        picked = f"SELECT {_names(spec)} FROM {typed} WHERE {condition} ORDER BY {keys}"
    merged = {**_merged_values(spec, "excluded"), "synced_at": "now()"}
    if spec.kind == "snapshot":
        merged["removed_at"] = "NULL"
    return f"""
WITH coercion AS MATERIALIZED (
    SELECT {needs_coercion} AS needed
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
       (SELECT needed FROM coercion)
FROM merged"""


def reused_key_statement(spec: SyncSpec, staging: Staging) -> str:
    """Return the statement that finds a row whose key the target has with other times; its parameter is `cluster`.

    It returns the key, the known start and the start of the row. Small differences are those of one row that is still
    written; a row that is hours away is another one, whose key was used before.
    """
    (key,), (start, end) = spec.source_key, spec.times or ("", "")
    values = {name: f"{staging.values[name]} AS {quote(name)}" for name in (key.name, start, end)}
    name, start, end = map(quote, (key.name, start, end))
    return f"""
SELECT t.{name}, t.{start}, s.{start} FROM (
    SELECT {", ".join(values.values())} FROM {staging.name} WHERE NOT coalesce({staging.needs_coercion}, false)
) AS s
JOIN {spec.table.fullname} AS t ON t.cluster = :cluster AND t.{name} = s.{name}
WHERE least(s.{start}, s.{end}) > greatest(t.{start}, t.{end}) + interval '1 hour'
   OR greatest(s.{start}, s.{end}) < least(t.{start}, t.{end}) - interval '1 hour'
LIMIT 1"""


def _changes(spec: SyncSpec, source: str) -> str:
    """Return the condition that merging a row of `source` changes the row `t` of the target."""
    merged = _merged_values(spec, source)
    differs = f"({', '.join(f't.{name}' for name in merged)}) IS DISTINCT FROM ({', '.join(merged.values())})"
    if spec.kind == "snapshot":
        differs = f"({differs} OR t.removed_at IS NOT NULL)"
    if spec.version_column:
        stamp = quote(spec.version_column)
        differs += f"\n      AND (t.{stamp} IS NULL OR {source}.{stamp} >= t.{stamp})"
    return differs


def _differs_from_target(spec: SyncSpec, source: str) -> str:
    """Return the condition that a row of `source` is new to the target or changes it."""
    names = [quote(c.name) for c in spec.source_key]
    # OFFSET makes the planner look up each key; it would join the whole target otherwise.
    return (
        f"NOT EXISTS (SELECT FROM {spec.table.fullname} AS t WHERE t.cluster = :cluster "
        f"AND {_equal('t', source, names)} AND NOT ({_changes(spec, source)}) OFFSET 0)"
    )


def record_keys_statements(spec: SyncSpec, staging: Staging) -> list[str]:
    """Return the statements that record the keys of a snapshot's batch in a temporary table."""
    keys = [c.name for c in spec.source_key]
    values = ", ".join(staging.values[key] for key in keys)
    return [read_keys_table(spec), f"INSERT INTO {_read_keys(spec)} SELECT {values} FROM {staging.name}"]


def read_keys_table(spec: SyncSpec) -> str:
    """Return the statement that creates the temporary table of these keys."""
    names = ", ".join(quote(c.name) for c in spec.source_key)
    select = f"SELECT {names} FROM {spec.table.fullname} WITH NO DATA"
    return f"CREATE TEMPORARY TABLE IF NOT EXISTS {_read_keys(spec)} AS {select}"


def removal_statement(spec: SyncSpec, *, by_database: bool) -> str:
    """Return the statement that marks rows whose keys were in no batch; its parameter is `cluster`.

    With `by_database` it marks rows of the parameter `databases`, and all of databases that are not `existing`.
    """
    names = [quote(c.name) for c in spec.source_key]
    is_removed = f"NOT {spec.present_where}" if spec.present_where else "true"
    if by_database:
        name = f"t.{quote(spec.database_column or '')}"
        # A row that names another database than the catalog does belongs to the read that found it.
        is_read = f"{name} IN (SELECT {quote(spec.database_column or '')} FROM {_read_keys(spec)})"
        is_removed = f"""({name} = ANY(:databases) AND {is_removed} OR {name} <> ALL(:existing)
           AND (NOT {is_read} OR {is_removed}))"""
    return f"""
UPDATE {spec.table.fullname} AS u SET removed_at = now()
FROM (
    SELECT {", ".join(names)} FROM {spec.table.fullname} AS t
    WHERE t.cluster = :cluster AND t.removed_at IS NULL
      AND NOT EXISTS (SELECT FROM {_read_keys(spec)} s WHERE {_equal("s", "t", names)})
      AND {is_removed}
    ORDER BY {", ".join(names)} FOR UPDATE
) AS removed
WHERE u.cluster = :cluster AND {_equal("u", "removed", names)}"""


def _equal(left: str, right: str, names: Sequence[str]) -> str:
    return " AND ".join(f"{left}.{name} = {right}.{name}" for name in names)


def _merged_values(spec: SyncSpec, source: str) -> dict[str, str]:
    """Return, by column outside the key, the value that merging a row of `source` into the row `t` gives."""
    key_names = {c.name for c in spec.key}
    values = {}
    for column in spec.columns:
        if column.name not in key_names:
            name, merge = quote(column.name), column.info["merge"]
            values[name] = f"{source}.{name}" if merge == "replace" else f"{merge}({source}.{name}, t.{name})"
    return values


def _read_keys(spec: SyncSpec) -> str:
    return f"read_keys_{spec.table.name}"


def _names(spec: SyncSpec) -> str:
    return ", ".join(quote(c.name) for c in spec.columns)
