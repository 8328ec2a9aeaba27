"""Read a target table as a pandas DataFrame with exact types."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

if TYPE_CHECKING:
    import pandas as pd


def read_table(
    engine: sa.Engine, table: sa.Table, names: Sequence[str] | None, clusters: Sequence[str] | None = None
) -> pd.DataFrame:
    """Return a table as a DataFrame; no value is converted to float.

    Args:
        engine: engine of the target database.
        table: the table.
        names: the columns, in this order; None for all.
        clusters: the clusters whose rows are read; None for all.

    Raises:
        ValueError: the table has no column of that name.
    """
    import pandas as pd  # slow to import, and a sync does not need it

    unknown = sorted(set(names or ()) - set(table.c.keys()))
    if unknown:
        raise ValueError(f"{table.fullname} has no column {', '.join(unknown)}; it has {', '.join(table.c.keys())}")
    columns = [table.c[n] for n in names] if names is not None else list(table.c)
    wanted = sa.true() if clusters is None else table.c.cluster.in_(clusters)
    with engine.connect() as connection:
        rows = connection.execute(sa.select(*columns).where(wanted)).all()
    values = zip(*rows, strict=True) if rows else [()] * len(columns)
    return pd.DataFrame(
        {c.name: pd.Series(list(v), dtype=_dtype(c.type)) for c, v in zip(columns, values, strict=True)}
    )


def _dtype(type_: sa.types.TypeEngine[Any]) -> Any:
    if isinstance(type_, sa.Integer):
        return "Int64"
    if isinstance(type_, sa.Boolean):
        return "boolean"
    if isinstance(type_, sa.DateTime):
        return "datetime64[us, UTC]"
    return "object"
