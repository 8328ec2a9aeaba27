"""What happens to one cluster or database: rows for any sync job, which depend on the neighbor in no way.

Two neighbors have rows with equal keys, and with other ages, values, removals and invalid rows.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from redshift_connector.utils import type_utils as driver

from qupersync_assets.postgres.staging import ddl
from qupersync_assets.redshift.wire_protocol import text_recv
from qupersync_assets.rows.page import Page, Pages, RawPage, WireType
from qupersync_assets.rows.source_read import SourceRead
from qupersync_assets.spec import SyncSpec, Window

# All times are relative to it, and none is in the future.
BASE = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(days=1)
OLD = timedelta(days=400)
LAST = 3
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_TYPES = {
    "bigint": ("bigint", struct.Struct("!q").pack, driver.int8_recv),
    "integer": ("integer", struct.Struct("!i").pack, driver.int4_recv),
    "boolean": ("boolean", struct.Struct("!?").pack, driver.bool_recv),
    "timestamp with time zone": ("timestamp", lambda time: _micros(time), driver.timestamp_recv_integer),
}


def _micros(time: datetime) -> bytes:
    return struct.pack("!q", (time - _EPOCH) // timedelta(microseconds=1))


def raw_page(spec: SyncSpec, rows: Sequence[dict[str, Any]]) -> RawPage:
    """Return rows as Redshift sends them; numerics are texts."""
    types = [_TYPES.get(ddl(c).lower(), ("text", lambda value: str(value).encode(), text_recv)) for c in spec.columns]
    bodies = []
    for row in rows:
        fields = [struct.pack("!h", len(types))]
        for column, (_, pack, _) in zip(spec.columns, types, strict=True):
            value = row.get(column.name)
            packed = b"" if value is None else pack(value)
            fields.append(struct.pack("!i", -1 if value is None else len(packed)) + packed)
        bodies.append(b"".join(fields))
    wire = tuple(WireType(name, decode) for name, _, decode in types)
    return RawPage(tuple(c.name for c in spec.columns), wire, bodies)


@dataclass
class StorySource:
    """A source with the rows of one chapter; `windows` are those that it was opened with."""

    spec: SyncSpec
    name: str
    rows: list[dict[str, Any]]
    raw: bool
    read_to: datetime = BASE
    windows: list[Window] = field(default_factory=list)
    database: str | None = None

    @contextmanager
    def open(self, window: Window) -> Iterator[SourceRead]:
        self.windows.append(window)
        missing = (f"view.{self.name}",)
        yield SourceRead(self.name, window, self.read_to, "", self._pages(), missing, database=self.database)

    def _pages(self) -> Pages:
        names = tuple(c.name for c in self.spec.columns)
        for start in range(0, len(self.rows), 4):
            page = self.rows[start : start + 4]
            yield raw_page(self.spec, page) if self.raw else Page(names, [[r.get(n) for n in names] for r in page])


def rows(spec: SyncSpec, who: int, chapter: int, database: str | None = None) -> list[dict[str, Any]]:
    """Return the rows of a job in a chapter: the neighbor `who` (0 or 1) has other values than the other one, except
    in the last chapter, whose rows are new and equal."""
    numbers = [n for n in range(8) if n not in (chapter, chapter + 2 + who) and (n, bool(chapter), who) != (6, True, 0)]
    # No old row proves that none was lost. Those of vacuums of all databases are one history.
    if chapter == 1 and spec.kind == "history" and spec.table.name != "vacuum_history":
        numbers = [n for n in numbers if n > 1]
    if chapter == LAST:
        numbers, who = list(range(10, 14)), 0
    found = [row for n in numbers for row in _rows(spec, n, who, chapter)]
    if spec.database_column and database:
        found = [row | {spec.database_column: database} for row in found]
    if spec.time_column:
        time = spec.time_column
        found.sort(key=lambda row: (row[time] is None, row[time]))
    if chapter == 0:  # a NULL in the key
        found.append(found[0] | dict.fromkeys((c.name for c in spec.source_key if c.name in found[0]), None))
    return found


def _rows(spec: SyncSpec, n: int, who: int, chapter: int) -> list[dict[str, Any]]:
    bases = {base for c in spec.key for base in c.info.get("generated_from", (c.name,))}
    version = 1 if (n, who) == (5, 0) else 1 + who + 2 * chapter  # one row never changes
    row = {c.name: _value(c, n, 0 if c.name in bases else version) for c in spec.columns}
    time = BASE - OLD + timedelta(hours=n) if n < 2 else BASE - timedelta(minutes=10 * n)
    if spec.time_column and spec.time_column in bases:
        row[spec.time_column] = time
    elif spec.time_column:
        row[spec.time_column] = None if n == 7 and spec.table.c[spec.time_column].nullable else time - _age(who)
    if spec.table.name == "vacuum_history":
        return _vacuum(row, n, who)
    if "table_id" in row:
        row["table_id"] = n
    if spec.table.name == "query_history":
        row |= _query(n, who, row["start_time"])
    return [row]


def _age(who: int) -> timedelta:
    return who * timedelta(minutes=7)


def _value(column: sa.Column[Any], n: int, version: int) -> Any:
    kind = ddl(column).lower()
    if kind == "timestamp with time zone":
        return BASE - timedelta(hours=n, minutes=version)
    if kind == "boolean":
        return bool((n + version) % 2)
    if kind == "text":
        return f"{n} {version}" if version else str(n)
    return n + 10 * version


def _vacuum(row: dict[str, Any], n: int, who: int) -> list[dict[str, Any]]:
    """A start and an end; the neighbor's vacuum is of another kind, and began later in the same transaction."""
    row |= {"xid": n, "table_id": n, **dict.fromkeys(("database_name", "schema_name", "table_name"))}
    end = row["eventtime"]
    start = {
        "status": ("Started Delete Only", "Started Sort Only")[who],
        "eventtime": end - timedelta(minutes=9) + _age(who),
    }
    return [row | start, row | {"status": "Finished", "eventtime": end + _age(who)}]


def _query(n: int, who: int, start: datetime | None) -> dict[str, Any]:
    """Long queries that have ended, unfinished ones, and ordinary ones; which is which depends on `who`."""
    if n == 2:
        return {"status": "success", "start_time": BASE - timedelta(days=5 - 2 * who), "end_time": BASE}
    if n == 3 + who:
        return {"status": "running", "end_time": None}
    return {"status": "failed" if n in (5, 6) else "success", "end_time": start and start + timedelta(seconds=1)}
