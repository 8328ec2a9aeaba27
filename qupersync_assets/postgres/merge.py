"""The statements that merge a batch from its staging table into the target table of a job.

https://www.postgresql.org/docs/current/sql-insert.html#SQL-ON-CONFLICT. The statement fails if a batch
has a key twice, hence DISTINCT ON. Only rows that are new or differ are written. All writers write rows in the
order of their keys, so that they cannot deadlock.
"""

from collections.abc import Sequence

from qupersync_assets.core.sql import quote_identifier as quote
from qupersync_assets.postgres.staging import Staging
from qupersync_assets.spec import SyncSpec

# The planner does not see this value. It would take a cluster that its statistics do not know for one without rows, and
# choose any index that begins with `cluster`.
_CLUSTER = "(SELECT :cluster)"


def merge_statement(spec: SyncSpec, staging: Staging, *, by_lookup: bool = False, always: bool = False) -> str:
    """Return the statement that merges a staging table into the target; its parameter is `cluster`.

    It returns one row: the number of distinct keys, NULL if all keys are distinct; new rows; rows that differ; how many
    of both were written; whether the batch needs coercion, in which case nothing is written.

    `by_lookup` is for a typed staging table: without ON CONFLICT, so that the target needs no unique index. With
    `always` a row is also written if a trigger gives it the values that the target has.
    """
    names, keys = _names(spec), ", ".join(quote(c.name) for c in spec.source_key)
    # The staging table lacks generated key columns, but has the columns of their expressions.
    generated = "".join(f", {c.computed.sqltext} AS {quote(c.name)}" for c in spec.source_key if c.computed is not None)
    if staging.is_numbered:
        rows = f"SELECT {names}{generated}, _row FROM {staging.name}"
        needs_coercion, distinct = "false", "(SELECT count(*) FROM batch)"
        batch = f"SELECT DISTINCT ON ({keys}) * FROM ({rows}) AS r ORDER BY {keys}, _row DESC"
    else:
        values = ", ".join(f"{staging.values[c.name]} AS {quote(c.name)}" for c in spec.columns)
        typed = f"SELECT {values}, {staging.needs_coercion} AS _invalid FROM {staging.name}"
        found = f"coalesce(bool_or(_invalid), false) OR count(*) <> count(DISTINCT ({keys}))"
        needs_coercion, distinct = f"(SELECT {found} FROM batch)", "NULL"
        batch = f"SELECT *{generated} FROM ({typed}) AS v"
    merged = _merge_by_lookup(spec, names) if by_lookup else _merge_on_conflict(spec, names, always)
    # ON CONFLICT locks each known row, which takes longer than to look the row up first. LIMIT makes the planner look
    # up each key; it would join the whole target otherwise.
    return f"""
WITH batch AS {"MATERIALIZED" if staging.is_numbered else "NOT MATERIALIZED"} (
    {batch}
), coercion AS MATERIALIZED (
    SELECT {needs_coercion} AS needed
), picked AS MATERIALIZED (
    SELECT s.*, known.differs
    FROM batch AS s LEFT JOIN LATERAL (
        SELECT coalesce({_changes(spec, "s")}, false) AS differs FROM {spec.table.fullname} AS t
        WHERE t.cluster = {_CLUSTER} AND {_equal("t", "s", [quote(c.name) for c in spec.source_key])} LIMIT 1
    ) AS known ON true
    WHERE NOT (SELECT needed FROM coercion) AND known.differs IS NOT FALSE
    ORDER BY {keys}
), {merged}
SELECT {distinct}, (SELECT count(*) FROM picked WHERE differs IS NULL), (SELECT count(*) FROM picked WHERE differs),
       (SELECT count(*) FROM merged), (SELECT needed FROM coercion)"""


def _merge_on_conflict(spec: SyncSpec, names: str, always: bool) -> str:
    return f"""merged AS (
    INSERT INTO {spec.table.fullname} AS t (cluster, {names})
    SELECT :cluster, {names} FROM picked
    ON CONFLICT ({", ".join(quote(c.name) for c in spec.key)}) DO UPDATE
    SET {_assignments(spec, "excluded")}
    WHERE {"true" if always else _changes(spec, "excluded")}
    RETURNING 1
)"""


def _merge_by_lookup(spec: SyncSpec, names: str) -> str:
    return f"""changed AS (
    UPDATE {spec.table.fullname} AS t SET {_assignments(spec, "s")} FROM picked AS s
    WHERE s.differs AND t.cluster = {_CLUSTER} AND {_equal("t", "s", [quote(c.name) for c in spec.source_key])}
    RETURNING s._row
), added AS (
    INSERT INTO {spec.table.fullname} (cluster, {names})
    SELECT :cluster, {names} FROM picked WHERE differs IS NULL
    RETURNING 1
), merged AS (
    SELECT DISTINCT _row FROM changed UNION ALL SELECT 1 FROM added
)"""


def _assignments(spec: SyncSpec, source: str) -> str:
    values = {**_merged_values(spec, source), "synced_at": "now()"}
    if spec.kind == "snapshot":
        values["removed_at"] = "NULL"
    return ", ".join(f"{name} = {value}" for name, value in values.items())


def reused_key_statement(spec: SyncSpec, staging: Staging) -> str:
    """Return the statement that finds a row whose key the target has with other times; its parameter is `cluster`.

    It returns the key, the known start and the start of the row. Small differences are those of one row that is still
    written; a row that is hours away is another one, whose key was used before.
    """
    (key,), (start, end) = spec.source_key, spec.times or ("", "")
    values = {name: f"{staging.values[name]} AS {quote(name)}" for name in (key.name, start, end)}
    name, start, end = map(quote, (key.name, start, end))
    # LIMIT makes the planner look up each key, as in the merge.
    return f"""
SELECT t.{name}, t.{start}, s.{start} FROM (
    SELECT {", ".join(values.values())} FROM {staging.name} WHERE NOT coalesce({staging.needs_coercion}, false)
) AS s
CROSS JOIN LATERAL (
    SELECT * FROM {spec.table.fullname} AS t WHERE t.cluster = {_CLUSTER} AND t.{name} = s.{name} LIMIT 1
) AS t
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


def record_key_statement(spec: SyncSpec) -> str:
    """Return the statement that records the key of a skipped row; its parameters are the names of the key, NULL where
    the value is not known."""
    names = [c.name for c in spec.source_key]
    values = ", ".join(f":{name}" for name in names)
    return f"INSERT INTO {_read_keys(spec)} ({', '.join(map(quote, names))}) VALUES ({values})"


def removal_statement(spec: SyncSpec, *, by_database: bool) -> str:
    """Return the statement that marks rows whose keys were in no batch; its parameter is `cluster`.

    With `by_database` it marks rows of the parameter `databases`, and all of databases that are not `existing`. A row
    that may be one of those whose keys are not completely known is not marked.
    """
    names = [quote(c.name) for c in spec.source_key]
    is_removed = f"NOT {spec.present_where}" if spec.present_where else "true"
    if by_database:
        name = f"t.{quote(spec.database_column or '')}"
        # A row that names another database than the catalog does belongs to the read that found it.
        is_read = f"{name} IN (SELECT {quote(spec.database_column or '')} FROM {_read_keys(spec)})"
        is_removed = f"""({name} = ANY(:databases) AND {is_removed} OR {name} <> ALL(:existing)
           AND (NOT {is_read} OR {is_removed}))"""
    is_unknown = " OR ".join(f"{name} IS NULL" for name in names)
    may_be = " AND ".join(f"(u.{name} IS NULL OR u.{name} = t.{name})" for name in names)
    return f"""
WITH unknown AS MATERIALIZED (
    SELECT DISTINCT {", ".join(names)} FROM {_read_keys(spec)} WHERE {is_unknown}
)
UPDATE {spec.table.fullname} AS u SET removed_at = now()
FROM (
    SELECT {", ".join(names)} FROM {_unread(spec)}
      AND {is_removed} AND NOT EXISTS (SELECT FROM unknown u WHERE {may_be})
    ORDER BY {", ".join(names)} FOR UPDATE
) AS removed
WHERE u.cluster = {_CLUSTER} AND {_equal("u", "removed", names)}"""


def undecided_statement(spec: SyncSpec, *, by_database: bool) -> str:
    """Return the statement that counts rows that were neither read nor marked as removed; its parameter is `cluster`.

    With `by_database` it counts rows of the parameter `databases`.
    """
    is_present = f"AND NOT {spec.present_where}" if spec.present_where else ""
    in_databases = f"AND t.{quote(spec.database_column or '')} = ANY(:databases)" if by_database else ""
    return f"SELECT count(*) FROM {_unread(spec)} {is_present} {in_databases}"


def _unread(spec: SyncSpec) -> str:
    """Return the FROM clause of the rows `t` that are not removed and whose keys were in no batch."""
    names = [quote(c.name) for c in spec.source_key]
    return f"""{spec.table.fullname} AS t
    WHERE t.cluster = {_CLUSTER} AND t.removed_at IS NULL
      AND NOT EXISTS (SELECT FROM {_read_keys(spec)} s WHERE {_equal("s", "t", names)})"""


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
