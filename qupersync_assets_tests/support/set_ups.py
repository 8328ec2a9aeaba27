"""Target tables as administrators change them."""

from __future__ import annotations

from qupersync_assets_tests.support.integration import Query


def partition(target: Query, table: str, by: str, *, key: str = "", **bounds: str) -> None:
    """Replace a table by an empty partitioned one, with the `bounds` of each partition and a default partition.

    `key` is the primary key, which must contain the columns of `by`; by default it stays.
    """
    name, old = f"quper.{table}", f"quper.{table}_replaced"
    ((found,),) = target(
        "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = %s::regclass AND contype = 'p'", [name]
    )
    parts = "; ".join(
        [
            *(f"CREATE TABLE {name}_{part} PARTITION OF {name} FOR VALUES {bound}" for part, bound in bounds.items()),
            f"CREATE TABLE {name}_rest PARTITION OF {name} DEFAULT",
        ]
    )
    like = f"LIKE {old} INCLUDING DEFAULTS INCLUDING GENERATED INCLUDING COMMENTS"
    target(
        f"ALTER TABLE {name} RENAME TO {table}_replaced; CREATE TABLE {name} ({like}) PARTITION BY {by}; "
        f"ALTER TABLE {name} ADD {f'PRIMARY KEY ({key})' if key else found}; {parts}; "
        f"DROP TABLE {old} CASCADE; ALTER TABLE {name} OWNER TO qupersync; "
        + "; ".join(f"ALTER TABLE {name}_{part} OWNER TO qupersync" for part in [*bounds, "rest"])
    )
