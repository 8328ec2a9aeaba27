"""Raw pages give the same target rows, counts and skipped rows as decoded pages."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from qupersync_assets.core.errors import SyncError
from qupersync_assets.postgres.advisory_lock import JobConnection
from qupersync_assets.postgres.batch_writer import BatchWriter
from qupersync_assets.postgres.resource import PostgresResource
from qupersync_assets.postgres.schema import ensure_schema
from qupersync_assets.redshift.resource import RedshiftResource
from qupersync_assets.rows.page import Page, RawPage, WireType
from qupersync_assets.rows.row_counts import SkippedRow
from qupersync_assets.settings import Settings
from qupersync_assets.spec import SyncSpec
from qupersync_assets.sync_jobs import all_specs
from qupersync_assets_tests.support.integration import Query, Sync, pages_of

ALL_TYPES = (
    "SELECT true, 1::smallint, 1::integer, 1::bigint, 1::oid, 1.5::numeric(9,2), 'x'::varchar(9), "
    "getdate()::timestamp, timestamptz '2026-01-01 00:00:00+00'"
)
NAMES = ("boolean", "smallint", "integer", "bigint", "oid", "numeric", "text", "timestamp", "timestamptz")
# The driver decodes pages with double precision.
SPECS = [spec for spec in all_specs() if not any(isinstance(c.type, sa.Double) for c in spec.columns)]
BITS = {"smallint": 16, "integer": 32, "bigint": 64}
FORMATS = {"smallint": "!h", "integer": "!i", "bigint": "!q", "timestamp": "!q", "timestamptz": "!q", "oid": "!I"}


@pytest.fixture
def redshift(environment: dict[str, str]) -> Iterator[RedshiftResource]:
    yield RedshiftResource(Settings.load().by_cluster()["sandbox"])


@pytest.fixture
def engine(postgres: PostgresResource) -> sa.Engine:
    """The target with the tables of all jobs."""
    ensure_schema(postgres, all_specs())
    return postgres.engine()


@pytest.fixture
def wire_types(redshift: RedshiftResource) -> dict[str, WireType]:
    """The driver's formats, by the name of the type in Redshift."""
    with redshift.session() as session:
        (page,) = session.pages(ALL_TYPES, 10)
    assert isinstance(page, RawPage)
    types = dict(zip(NAMES, page.types, strict=True))
    return types | {"digits": types["text"]}


NUMBERS = st.one_of(
    st.integers(-300, 300).map(str),
    st.integers(-(10**45), 10**45).map(str),
    st.decimals(allow_nan=True, allow_infinity=True, places=3).map(str),
    st.sampled_from(["1.000", "-0.0", "999.994", "999.995", "99999.9999", "9223372036854775808"]),
)
DIGITS = st.one_of(NUMBERS, st.sampled_from(["x", "", " 7 ", "1_000", "7e2", "٣", "+5", "-", "1."]))
TEXTS = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=20).map(str.encode),
    st.sampled_from(
        [b"", b"a\0b", b"caf\xc3", b"\xff", b"\xed\xa0\x80", b"trailing  ", b"\\N", b"1_000", "漢".encode()]
    ),
)
TIMES = st.one_of(
    st.integers(-(2**63), 2**63 - 1),
    st.integers(-(10**15), 10**15),
    st.sampled_from([-63082281600000000, -63082281599999999, 252455615999999999, 252455615999999998]),
)


def values(wire: str) -> st.SearchStrategy[bytes]:
    """Return a strategy for values of a type in the format of the wire protocol."""
    if wire == "boolean":
        return st.sampled_from([b"\0", b"\1"])
    if wire == "text":
        return TEXTS
    if wire in ("numeric", "digits"):
        return (NUMBERS if wire == "numeric" else DIGITS).map(str.encode)
    if wire.startswith("timestamp"):
        return TIMES.map(lambda n: struct.pack("!q", n))
    if wire == "oid":
        return st.integers(0, 2**32 - 1).map(lambda n: struct.pack("!I", n))
    half = 1 << (BITS[wire] - 1)
    edges = st.one_of(st.integers(0, 9), st.integers(-half, half - 1))
    return edges.map(lambda n: struct.pack(FORMATS[wire], n))


def possible_types(column: sa.Column[Any]) -> list[str]:
    """Return the types in which Redshift may send the values of a column."""
    match column.type:
        case sa.Text():
            return ["text", "text", "text", "bigint", "integer", "oid"]
        case sa.Boolean():
            return ["boolean"]
        case sa.DateTime():
            return ["timestamp", "timestamptz"]
        case sa.Integer():
            return ["bigint", "integer", "smallint", "numeric", "oid", "digits"]
        case sa.Numeric():
            return ["numeric", "bigint", "integer", "digits"]
    raise AssertionError(f"no wire type for {column.type!r}")


def target_type(column: sa.Column[Any]) -> str:
    """Return the type whose binary format is that of the column, if there is one."""
    is_narrow = isinstance(column.type, sa.Integer) and not isinstance(column.type, sa.BigInteger)
    return "integer" if is_narrow else possible_types(column)[0]


@st.composite
def pages(draw: st.DrawFn) -> tuple[SyncSpec, list[str], list[bytes]]:
    """Draw a job, the types of its columns, and rows."""
    spec = draw(st.sampled_from(SPECS))
    # Rows of the target's types need no staging table.
    has_target_types = draw(st.booleans())
    types = [target_type(c) if has_target_types else draw(st.sampled_from(possible_types(c))) for c in spec.columns]
    # All other columns have one valid value, so that not every row is invalid.
    varied = draw(st.sets(st.integers(0, len(types) - 1), max_size=3))
    varied |= {i for i, c in enumerate(spec.columns) if c in set(spec.key)}
    plain = {"text": b"7", "numeric": b"7", "digits": b"7", "boolean": b"\1"}
    usual = [plain.get(t) or struct.pack(FORMATS[t], 7) for t in types]
    rows = []
    for _ in range(draw(st.integers(1, 6))):
        row = [struct.pack("!h", len(types))]
        for i, type_ in enumerate(types):
            value = draw(st.one_of(st.none(), values(type_), st.just(usual[i]))) if i in varied else usual[i]
            row.append(struct.pack("!i", -1) if value is None else struct.pack("!i", len(value)) + value)
        rows.append(b"".join(row))
    return spec, types, rows


@settings(max_examples=60)
@given(made=pages())
def test_raw_and_decoded_pages_give_the_same_rows(
    engine: sa.Engine, wire_types: dict[str, WireType], made: tuple[SyncSpec, list[str], list[bytes]]
) -> None:
    spec, types, bodies = made
    page = RawPage(tuple(c.name for c in spec.columns), tuple(wire_types[t] for t in types), bodies)
    with engine.begin() as connection:
        connection.execute(sa.text(f"TRUNCATE {spec.table.fullname}"))
    results: dict[str, Any] = {}
    for cluster, given_page in (("raw", page), ("decoded", page.decoded())):
        with closing(JobConnection(engine, cluster, spec.sync_job_id)) as target:
            writer = BatchWriter(target, spec, lambda *_: None)
            error = ""
            skipped: list[SkippedRow] = []
            try:
                for _ in range(3):  # the second and the third write compare the page with known rows
                    skipped += writer.write(given_page)
            except SyncError as failure:  # a page that contains a number twice, with times far from each other
                error = str(failure).replace(cluster, "")
        results[cluster] = error, writer.counts, [summary(r) for r in skipped], target_rows(engine, spec, cluster)
    assert results["raw"] == results["decoded"]


def test_keys_that_differ_only_in_bytes_that_cannot_be_stored_are_skipped(
    engine: sa.Engine, wire_types: dict[str, WireType]
) -> None:
    spec = next(s for s in all_specs() if s.table.name == "applications")
    types = tuple(wire_types[target_type(c)] for c in spec.columns)
    names = [b"app", b"app\0", b"ap\xc3", b"ap\xc4", "ap\ufffd".encode()]
    rows = [[name, b"u", b"d", bytes(8), bytes(8), struct.pack("!q", n)] for n, name in enumerate(names)]
    bodies = [struct.pack("!h", 6) + b"".join(struct.pack("!i", len(v)) + v for v in row) for row in rows]
    page = RawPage(tuple(c.name for c in spec.columns), types, bodies)
    for cluster in ("one", "two"):
        with closing(JobConnection(engine, cluster, spec.sync_job_id)) as target:
            writer = BatchWriter(target, spec, lambda *_: None)
            skipped = writer.write(page)
        assert [(r.column, r.row["sessions"]) for r in skipped] == [("application_name", n) for n in (1, 2, 3)]
        assert all("PostgreSQL cannot store" in r.reason for r in skipped)
        assert (writer.counts.inserted, writer.counts.duplicates, writer.counts.skipped) == (2, 0, 3)
    with engine.connect() as connection:
        stored = connection.execute(sa.text("SELECT application_name, sessions, count(*) FROM quper.applications "
                                            "GROUP BY 1, 2 ORDER BY 2"))  # fmt: skip
        assert [tuple(row) for row in stored] == [("app", 0, 2), ("ap\ufffd", 4, 2)]


def summary(skipped: SkippedRow) -> tuple[Any, ...]:
    # The detail of PostgreSQL's message contains the cluster.
    return skipped.column, skipped.reason.split(" DETAIL")[0], repr(skipped.row)


def target_rows(engine: sa.Engine, spec: SyncSpec, cluster: str) -> list[str]:
    """Return the rows of a cluster as text."""
    names = ", ".join(f'"{c.name}"' for c in spec.table.c if c.name not in ("cluster", "synced_at"))
    with engine.connect() as connection:
        rows = connection.execute(
            sa.text(f"SELECT ({names})::text FROM {spec.table.fullname} WHERE cluster = :c"), {"c": cluster}
        )
        return sorted(rows.scalars())


@pytest.mark.parametrize("number", ["Infinity", "NaN", "9223372036854775808", "1.5"])
def test_a_row_with_a_key_that_is_no_integer_is_skipped(
    engine: sa.Engine, wire_types: dict[str, WireType], number: str
) -> None:
    spec = next(s for s in all_specs() if s.table.name == "node_details")
    types = tuple(wire_types["numeric"] for _ in spec.columns)
    texts = [number.encode(), *(b"7" for _ in spec.columns[1:])]
    body = struct.pack("!h", len(texts)) + b"".join(struct.pack("!i", len(t)) + t for t in texts)
    assert spec.columns[0].name == "node"
    with closing(JobConnection(engine, "c", spec.sync_job_id)) as target:
        writer = BatchWriter(target, spec, lambda *_: None)
        (skipped,) = writer.write(RawPage(tuple(c.name for c in spec.columns), types, [body]))
    assert skipped.column == "node" and writer.counts.skipped == 1


def test_only_invalid_rows_are_decoded(
    sync: Sync, source: Query, target: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    source(
        "INSERT INTO sys_query_history (user_id, query_id, status, start_time, query_text) "
        "SELECT 100, n, 'success', getdate(), 'select ' || n FROM generate_series(1, 2500) n"
    )
    decoded: list[RawPage] = []
    original = RawPage.decoded
    monkeypatch.setattr(RawPage, "decoded", lambda page: decoded.append(page) or original(page))
    assert sync("query_history").success
    assert target("SELECT count(*), count(DISTINCT query_text) FROM quper.query_history") == [(2500, 2500)]
    assert decoded == []
    source("UPDATE sys_query_history SET end_time = 'infinity' WHERE query_id = 1700")
    target("TRUNCATE quper.query_history")
    assert sync("query_history").success
    assert target("SELECT count(*) FROM quper.query_history") == [(2499,)]
    assert sync("query_history").success  # the other rows are known now
    assert [len(page) for page in decoded] == [1, 1]


def test_the_driver_decodes_rows_with_unknown_types(redshift: RedshiftResource) -> None:
    with redshift.session() as session:
        (page,) = session.pages("SELECT 1::bigint AS n, 1.5::float8 AS f", 10)
    assert isinstance(page, Page)
    assert [list(row) for row in page.rows] == [[1, 1.5]]


@pytest.mark.parametrize("body", [b"\0\1\0\0\0\x09short", b"\0\1", b"\0\1\0\0\0\1xx"])
def test_bytes_that_do_not_match_the_types_are_an_error(wire_types: dict[str, WireType], body: bytes) -> None:
    page = RawPage(("t",), (wire_types["text"],), [body])
    with pytest.raises(SyncError, match="cannot be decoded"):
        page.decoded()


def test_a_raw_page_is_decoded_as_by_the_driver(redshift: RedshiftResource) -> None:
    with redshift.session() as session:
        (raw,) = session.pages(ALL_TYPES, 10)
        (row,) = session.rows(ALL_TYPES)
    assert isinstance(raw, RawPage)
    assert raw.decoded().rows[0][:7] == row[:7]
    assert [list(p.rows[0]) for p in pages_of(redshift, "SELECT NULL::bigint, ''::varchar(1)", 5)] == [[None, ""]]
