"""Changes in the driver: no row is lost, none differs, and a driver that is not known decodes the rows itself."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from qupersync_assets.core.errors import SyncError
from qupersync_assets.redshift import wire_protocol
from qupersync_assets.redshift.resource import RedshiftResource
from qupersync_assets.rows.page import Page, RawPage, WireType
from qupersync_assets.settings import Settings


@pytest.fixture
def redshift(environment: dict[str, str]) -> Iterator[RedshiftResource]:
    yield RedshiftResource(Settings.load().by_cluster()["sandbox"])


def another_handler(*_: Any) -> None:
    raise AssertionError("this handler must not be called")


@pytest.mark.parametrize(
    ("attribute", "replacement"),
    [
        ("redshift_connector.core.Connection.handle_DATA_ROW", another_handler),
        ("redshift_connector.utils.type_utils.bool_recv", None),
    ],
)
def test_an_unknown_driver_decodes_the_rows(
    redshift: RedshiftResource, monkeypatch: pytest.MonkeyPatch, attribute: str, replacement: Callable[..., Any] | None
) -> None:
    with redshift.session():
        pass  # the pooled connection keeps its handlers
    if replacement is None:
        monkeypatch.delattr(attribute)
    else:
        monkeypatch.setattr(attribute, replacement)
    with redshift.session() as session, pytest.warns(UserWarning, match="redshift_connector has unknown internals"):
        (page,) = session.pages("SELECT 1::bigint AS n, 'x'::varchar(9) AS t", 10)
    assert isinstance(page, Page)
    assert [list(row) for row in page.rows] == [[1, "x"]]


def test_a_driver_that_bypasses_the_handlers_decodes_the_rows(
    redshift: RedshiftResource, monkeypatch: pytest.MonkeyPatch
) -> None:
    with redshift.session() as session:
        driver = session._connection.dbapi_connection
        original = driver.execute

        def execute(*arguments: Any) -> None:
            vars(driver).pop("handle_messages", None)
            original(*arguments)

        monkeypatch.setattr(driver, "execute", execute)
        with pytest.warns(UserWarning, match="redshift_connector has unknown internals"):
            pages = list(session.pages("SELECT n FROM generate_series(1, 25) n", 10))
    assert [type(page) for page in pages] == [Page] * 3
    assert [n for page in pages for (n,) in page.decoded().rows] == list(range(1, 26))


def test_the_option_to_merge_reads_of_the_socket_changes_nothing(
    redshift: RedshiftResource, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The option exists already and is off by default; with it the driver hangs in a rollback."""
    monkeypatch.setattr("redshift_connector.Cursor.execute.__defaults__", (None, None, True))
    for _ in range(2):
        with redshift.session() as session:
            pages = list(session.pages("SELECT n FROM generate_series(1, 2500) n", 1000))
            assert session._connection.dbapi_connection.merge_socket_read
            assert session.rows("SELECT 1 AS one")[0][0] == 1
        assert [type(page) for page in pages] == [RawPage] * 3
        assert [n for page in pages for (n,) in page.decoded().rows] == list(range(1, 2501))


def test_a_driver_that_decodes_otherwise_decodes_all_rows(
    redshift: RedshiftResource, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It reads integers from other bytes than the raw page says."""
    monkeypatch.setattr(wire_protocol, "_compared_types", set())
    known = wire_protocol._known_types

    def reversed_integers(connection: Any) -> dict[int, WireType]:
        def reverse(data: bytes, offset: int, length: int) -> int:
            return int(struct.unpack_from("<i", data, offset)[0])

        return {oid: WireType(t.name, reverse) if t.name == "integer" else t for oid, t in known(connection).items()}

    monkeypatch.setattr(wire_protocol, "_known_types", reversed_integers)
    with redshift.session() as session, pytest.warns(UserWarning, match="another format of rows"):
        pages = list(session.pages("SELECT n FROM generate_series(1, 2500) n", 1000))
    assert [type(page) for page in pages] == [Page] * 3
    assert [n for page in pages for (n,) in page.decoded().rows] == list(range(1, 2501))


def test_each_type_is_compared_once_per_process(redshift: RedshiftResource, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire_protocol, "_compared_types", set())
    decoded: list[int] = []
    original = RawPage.decoded
    monkeypatch.setattr(RawPage, "decoded", lambda page: decoded.append(len(page)) or original(page))
    with redshift.session() as session:
        for sql in ("SELECT n FROM generate_series(1, 300) n", "SELECT n, NULL::bigint FROM generate_series(1, 9) n"):
            assert all(isinstance(page, RawPage) for page in session.pages(sql, 150))
            assert all(isinstance(page, RawPage) for page in session.pages(sql, 150))
    assert decoded == [100, 9, 9]  # a type without a value is not yet known


@pytest.mark.parametrize("lossy_answer", [0, 1])
def test_a_lost_row_is_an_error(redshift: RedshiftResource, monkeypatch: pytest.MonkeyPatch, lossy_answer: int) -> None:
    """The server states the number of rows of each answer."""
    receive = wire_protocol.RawFetcher._receive
    answers: list[int] = []

    def lossy(fetcher: Any, cursor: Any) -> None:
        receive(fetcher, cursor)
        if fetcher._bodies and len(answers) == lossy_answer:
            del fetcher._bodies[5]
        answers.extend([1] if fetcher._bodies else [])

    monkeypatch.setattr(wire_protocol.RawFetcher, "_receive", lossy)
    with redshift.session() as session, pytest.raises(SyncError, match="999 of 1000 rows arrived"):
        list(session.pages("SELECT n FROM generate_series(1, 2500) n", 1000))
    assert answers


def test_a_long_row_is_read_in_pieces_and_a_longer_one_is_refused(
    redshift: RedshiftResource, monkeypatch: pytest.MonkeyPatch
) -> None:
    sql = "SELECT repeat('x', 40000000) AS t UNION ALL SELECT 'y'"
    with redshift.session() as session:
        (page,) = session.pages(sql, 10)
    assert [len(text) for (text,) in page.decoded().rows] == [40_000_000, 1]
    monkeypatch.setattr(wire_protocol, "_LONGEST_MESSAGE", 30_000_000)
    with redshift.session() as session, pytest.raises(SyncError, match="a message of 400000"):
        list(session.pages(sql, 10))
