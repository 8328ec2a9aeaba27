"""Rows of a snapshot that the target has: they are recognised, and everything else is as without this."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import example, given, settings
from hypothesis import strategies as st

from qupersync_assets.postgres.resource import PostgresResource
from qupersync_assets.rows.page import Page, Pages, RawPage, WireType
from qupersync_assets.rows.row_counts import RowCounts
from qupersync_assets.rows.source_read import SourceParts, SourceRead
from qupersync_assets.spec import Window
from qupersync_assets.sync_jobs.column_stats import SPEC
from qupersync_assets_tests.integration.postgres.test_loader import load_list
from qupersync_assets_tests.integration.postgres.test_removed_rows import NODES
from qupersync_assets_tests.support.integration import Query, Sync

NAMES = tuple(c.name for c in SPEC.columns)
# Database, table, column, type.
Row = tuple[str, str, str | None, str]
Pages_ = Sequence[Sequence[Row]]


def wire_type(column: sa.Column[Any]) -> WireType:
    match column.type:
        case sa.Text():
            return WireType("text", lambda data, at, length: data[at : at + length].decode())
        case sa.Boolean():
            return WireType("boolean", lambda data, at, length: data[at] == 1)
        case sa.BigInteger():
            return WireType("bigint", lambda data, at, length: struct.unpack_from("!q", data, at)[0])
    return WireType("integer", lambda data, at, length: struct.unpack_from("!i", data, at)[0])


TYPES = tuple(wire_type(column) for column in SPEC.columns)


def values(row: Row) -> list[str | None]:
    named = dict(zip(("table_catalog", "table_name", "column_name", "data_type"), row, strict=True))
    return [named.get(name, "s" if name == "table_schema" else None) for name in NAMES]


def body(row: Row) -> bytes:
    fields = [struct.pack("!i", -1) if v is None else struct.pack("!i", len(v)) + v.encode() for v in values(row)]
    return struct.pack("!h", len(NAMES)) + b"".join(fields)


@dataclass(frozen=True)
class Part:
    """The rows that one database shows, as raw or as decoded pages."""

    name: str
    pages: Pages_
    is_raw: bool

    @contextmanager
    def open(self, window: Window) -> Iterator[SourceRead]:
        yield SourceRead("rows", window, datetime(2026, 11, 1, tzinfo=UTC), "", self._pages(), database=self.name)

    def _pages(self) -> Pages:
        for page in self.pages:
            raw = RawPage(NAMES, TYPES, list(map(body, page)))
            yield raw if self.is_raw else Page(NAMES, list(map(values, page)))


@dataclass(frozen=True)
class Databases:
    """A cluster whose views show one database at a time."""

    pages: dict[str, Pages_]
    existing: frozenset[str]
    is_raw: bool

    def parts(self) -> SourceParts:
        return SourceParts({name: Part(name, p, self.is_raw) for name, p in self.pages.items()}, (), self.existing)


def rows_of(database: str) -> st.SearchStrategy[Row]:
    # Few rows name the other database, or have no complete key.
    databases = st.sampled_from([database] * 9 + ["x", "y"])
    columns = st.sampled_from(["x", "y", "z"] * 5 + [None])
    return st.tuples(databases, st.sampled_from(["a", "b"]), columns, st.sampled_from(["integer"] * 3 + ["date"]))


def pages_of(database: str) -> st.SearchStrategy[Pages_]:
    return st.lists(st.lists(rows_of(database), min_size=1, max_size=4), max_size=3)


STATES = st.tuples(
    st.dictionaries(st.sampled_from(["x", "y"]), st.just(None), min_size=1).flatmap(
        lambda names: st.fixed_dictionaries({name: pages_of(name) for name in names})
    ),
    st.sampled_from([frozenset({"x", "y"}), frozenset({"x"}), frozenset({"y"})]),
    st.integers(1, 2),  # how often it is loaded: again it is known
)


# The second page of the second state has a known row that the page before it has replaced.
REPLACED: list[Any] = [
    ({"x": [[("x", "a", "x", "date")]]}, frozenset("x"), 1),
    ({"x": [[("x", "a", "x", "integer")], [("x", "a", "x", "date")]]}, frozenset("x"), 1),
]


@settings(max_examples=12)
@given(states=st.lists(STATES, min_size=2, max_size=4))
@example(states=REPLACED)
def test_known_rows_change_no_result(postgres: PostgresResource, states: list[Any]) -> None:
    with postgres.transaction() as connection:
        connection.execute(sa.text("DROP TABLE IF EXISTS quper.column_stats CASCADE"))
    for pages, existing, times in states:
        existing = existing | pages.keys()
        for _ in range(times):
            found = [
                load_list(postgres, Databases(pages, existing, is_raw), cluster, SPEC).counts
                for cluster, is_raw in (("raw", True), ("decoded", False))
            ]
            assert summary(found[0]) == summary(found[1])
            assert stored(postgres, "raw") == stored(postgres, "decoded")


def summary(counts: RowCounts) -> tuple[int, ...]:
    assert counts.extracted == counts.upserted + counts.duplicates + counts.skipped
    written = (counts.inserted, counts.updated, counts.unchanged, counts.duplicates, counts.skipped)
    return counts.extracted, *written, counts.removed, counts.undecided


def stored(postgres: PostgresResource, cluster: str) -> list[Any]:
    select = (
        "SELECT table_catalog, table_name, column_name, data_type, removed_at IS NULL FROM quper.column_stats "
        "WHERE cluster = :cluster ORDER BY 1, 2, 3"
    )
    with postgres.transaction() as connection:
        return list(connection.execute(sa.text(select), {"cluster": cluster}))


@contextmanager
def recorded() -> Iterator[list[str]]:
    """Collect the statements that are executed."""
    statements: list[str] = []

    def record(_connection: sa.Connection, _cursor: Any, statement: str, *_: Any) -> None:
        statements.append(statement)

    sa.event.listen(sa.Engine, "after_cursor_execute", record)
    try:
        yield statements
    finally:
        sa.event.remove(sa.Engine, "after_cursor_execute", record)


def test_unchanged_rows_of_two_databases_are_not_sent(postgres: PostgresResource) -> None:
    pages: dict[str, Pages_] = {name: [[(name, "a", column, "date") for column in "xyz"]] for name in ("one", "two")}
    source = Databases(pages, frozenset(pages), is_raw=True)
    assert load_list(postgres, source, "cluster", SPEC).counts.inserted == 6
    with recorded() as statements:
        assert load_list(postgres, source, "cluster", SPEC).counts.unchanged == 6
    assert statements and not [s for s in statements if "staging_" in s]


def test_an_unchanged_snapshot_is_not_sent(
    sync: Sync, source: Query, target: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    source(NODES, [2500])
    for cluster in ("other", "sandbox"):
        monkeypatch.setenv("CLUSTER_NAME", cluster)
        assert sync("node_details").success
    # The rows of the other cluster are not known ones of this one.
    assert target("SELECT cluster, count(*) FROM quper.node_details GROUP BY 1 ORDER BY 1") == [
        ("other", 2500),
        ("sandbox", 2500),
    ]
    before = target("SELECT * FROM quper.node_details ORDER BY cluster, node")
    with recorded() as statements:
        assert sync("node_details").success
    assert statements and not [s for s in statements if "staging_" in s or "removed_at = now()" in s]
    assert target("SELECT * FROM quper.node_details ORDER BY cluster, node") == before
    counts = "SELECT rows_extracted, rows_unchanged, rows_removed FROM quper.sync_logs ORDER BY id DESC LIMIT 1"
    assert target(counts) == [(2500, 2500, 0)]


def test_a_change_by_hand_is_undone(sync: Sync, source: Query, target: Query) -> None:
    source(NODES, [20])
    assert sync("node_details").success
    target("UPDATE quper.node_details SET used_mb = 0 WHERE node = 3")
    target("DELETE FROM quper.node_details WHERE node = 4")
    target("UPDATE quper.node_details SET removed_at = now() WHERE node = 5")
    target("INSERT INTO quper.node_details (cluster, node, used_mb) VALUES ('sandbox', 99, 1)")
    assert sync("node_details").success
    assert target("SELECT node, used_mb FROM quper.node_details WHERE removed_at IS NULL ORDER BY node") == [
        (n, n) for n in range(1, 21)
    ]
    assert target("SELECT node FROM quper.node_details WHERE removed_at IS NOT NULL") == [(99,)]
