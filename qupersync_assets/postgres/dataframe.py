"""Read a target table as a pandas DataFrame with exact types."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

if TYPE_CHECKING:
    import pandas as pd


def read_table(
    engine: sa.Engine,
    table: sa.Table,
    names: Sequence[str] | None,
    clusters: Sequence[str] | None = None,
    *,
    with_removed: bool = False,
) -> pd.DataFrame:
    """Return the columns `names` of the rows of `clusters` (None: all) as a DataFrame, without floats.

    Of a snapshot, rows that the source has lost are left out, unless `with_removed`.

    Raises:
        ValueError: the table has no column of that name.
    """
    import pandas as pd  # slow to import, and a sync does not need it

    if unknown := sorted(set(names or ()) - set(table.c.keys())):
        raise ValueError(f"{table.fullname} has no column {', '.join(unknown)}; it has {', '.join(table.c.keys())}")
    columns = [table.c[n] for n in names] if names is not None else list(table.c)
    wanted: sa.ColumnElement[bool] = sa.true() if clusters is None else table.c.cluster.in_(clusters)
    if "removed_at" in table.c and not with_removed:
        wanted &= table.c.removed_at.is_(None)
    with engine.connect() as connection:
        rows = connection.execute(sa.select(*columns).where(wanted)).all()
    values = zip(*rows, strict=True) if rows else [()] * len(columns)
    return pd.DataFrame(
        {c.name: pd.Series(list(v), dtype=_dtype(c.type)) for c, v in zip(columns, values, strict=True)}
    )


def _dtype(type_: sa.types.TypeEngine[Any]) -> Any:
    dtypes = {sa.Integer: "Int64", sa.Boolean: "boolean", sa.DateTime: "datetime64[us, UTC]"}
    return next((dtype for kind, dtype in dtypes.items() if isinstance(type_, kind)), "object")
