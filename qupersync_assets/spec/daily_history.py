"""The daily history of a snapshot: what Redshift overwrites, kept in quper.<snapshot>_daily."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from qupersync_assets.spec.target_table import SCHEMA, quper_table
from qupersync_assets.spec.view import View


@dataclass(frozen=True)
class DailyHistory:
    """The daily history of a snapshot; see `daily_history`.

    Attributes:
        table: quper.<snapshot>_daily, with a row for each object and day on which a kept column changed.
        view: quper.<snapshot>_by_day, with a row for each object and day on which the snapshot was read.
        key: the key of an object, without `cluster`.
        kept: the columns whose changes are kept.
        sums: columns with a sum over one day.
        sums_query: returns the first column of the key, `day` and the sums of the days that have changed since the
            parameter `since` (NULL: all); further parameters are `cluster` and `day`, the present day.
    """

    table: sa.Table
    view: View
    key: tuple[str, ...]
    kept: tuple[str, ...]
    sums: tuple[str, ...]
    sums_query: str


def daily_history(
    snapshot: sa.Table,
    *,
    key: Sequence[str],
    kept: Sequence[str],
    sums: Sequence[sa.Column[Any]] = (),
    sums_query: str = "",
) -> DailyHistory:
    """Define the daily history of a snapshot.

    `key` is the snapshot's key without `cluster`, in the order of the history's index: the column that readers know
    comes first.
    """
    names = [column.name for column in sums]
    table = quper_table(
        f"{snapshot.name}_daily",
        *(_copy(snapshot.c[name]) for name in key),
        sa.Column("day", sa.Date, comment="the day (UTC)"),
        *(_copy(snapshot.c[name]) for name in kept),
        *sums,
        sa.Column(
            "removed",
            sa.Boolean,
            nullable=False,
            comment="whether the row had disappeared from the source by the end of the day",
        ),
        key=(*key, "day"),
        shared_indexes=[(key[0], "day")],
        comment=f"{snapshot.fullname} by day: one row for each day on which a value changed, as of its last read.",
    )
    return DailyHistory(
        table, _by_day(snapshot, table, key, kept, names), tuple(key), tuple(kept), tuple(names), sums_query
    )


def _copy(column: sa.Column[Any]) -> sa.Column[Any]:
    return sa.Column(column.name, column.type, comment=column.comment)


def _by_day(snapshot: sa.Table, table: sa.Table, key: Sequence[str], kept: Sequence[str], sums: Sequence[str]) -> View:
    """Return the view that fills the days between changes; days on which the snapshot was not read are missing."""
    objects = ", ".join(["cluster", *key])
    columns = {
        **{name: str(table.c[name].comment) for name in ("cluster", *key, "day")},
        "changed_on": "the day of the row with these values in the daily table (UTC)",
        "is_complete": "false: rows of that day could not be read, so values may be those of an earlier day",
        **{name: str(table.c[name].comment) for name in (*kept, *sums)},
    }
    own = {"day": "r.day", "changed_on": "d.day", "is_complete": "r.is_complete"}
    own |= {name: f"CASE WHEN d.day = r.day THEN d.{name} ELSE 0 END" for name in sums}
    select = ", ".join(f"{own.get(name, f'd.{name}')} AS {name}" for name in columns)
    query = f"""SELECT {select}
FROM (
    SELECT *, lead(day) OVER (PARTITION BY {objects} ORDER BY day) AS next_day FROM {table.fullname}
) AS d
JOIN {SCHEMA}.snapshot_days AS r ON r.cluster = d.cluster AND r.table_name = '{snapshot.name}'
    AND r.day >= d.day AND (r.day < d.next_day OR d.next_day IS NULL)
WHERE NOT d.removed"""
    comment = (
        f"{snapshot.fullname} by day: one row for each object and day on which it was read, as of the last read. "
        "Days without a read are missing."
    )
    return View(f"{snapshot.name}_by_day", query, comment, columns)
