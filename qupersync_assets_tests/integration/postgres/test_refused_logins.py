"""The SQLSTATE of a refused login decides, in whichever language the server reports it."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

import psycopg2
import pytest

from qupersync_assets.core.errors import ErrorClass, SyncError
from qupersync_assets.postgres.resource import postgres_resource
from qupersync_assets.settings import Settings
from qupersync_assets_tests.support.integration import Query

Refuse = Callable[[str, str], None]
GERMAN = "Passwort-Authentifizierung für Benutzer »qupersync« fehlgeschlagen"
TRANSIENT, FATAL = ErrorClass.TRANSIENT, ErrorClass.FATAL


@pytest.fixture
def refuse(target: Query) -> Iterator[Refuse]:
    """Lets the server refuse the logins of POSTGRES_USER with a text and a SQLSTATE."""

    [(version,)] = target("SHOW server_version_num")
    if int(version) < 170000:
        pytest.skip("PostgreSQL has event triggers for logins since version 17")

    def set_refusal(text: str, code: str) -> None:
        target(
            "CREATE OR REPLACE FUNCTION refuse() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN "
            f"IF session_user = 'qupersync' THEN RAISE EXCEPTION '{text}' USING ERRCODE = '{code}'; END IF; END $$; "
            "CREATE EVENT TRIGGER refuse ON login EXECUTE FUNCTION refuse()"
        )

    yield set_refusal
    target("DROP EVENT TRIGGER IF EXISTS refuse; DROP FUNCTION IF EXISTS refuse")


def failure() -> SyncError:
    with pytest.raises(SyncError) as raised, postgres_resource(Settings.load()).transaction():
        pass
    return raised.value


@pytest.mark.parametrize(
    ("text", "code", "error_class", "remedy"),
    [
        (GERMAN, "28P01", FATAL, "Check POSTGRES_USER and POSTGRES_PASSWORD"),
        ("ユーザー パスワード認証に失敗しました", "28P01", FATAL, "POSTGRES_PASSWORD"),
        ("Datenbank existiert nicht", "3D000", FATAL, "Check POSTGRES_DATABASE"),
        ("kein pg_hba.conf-Eintrag", "28000", FATAL, "this user may log in from here"),
        ("tut mir leid, schon zu viele Verbindungen", "53300", TRANSIENT, ""),
        ("データベースシステムは起動しています", "57P03", TRANSIENT, ""),
        ("das ist unbekannt", "P0001", FATAL, ""),
        ("interner Fehler", "XX000", FATAL, ""),
    ],
)
def test_the_sqlstate_decides(refuse: Refuse, text: str, code: str, error_class: ErrorClass, remedy: str) -> None:
    refuse(text, code)
    with pytest.raises(psycopg2.OperationalError, match=f"FATAL:  {text}"):
        psycopg2.connect(**Settings.load().libpq())
    error = failure()
    assert (error.sqlstate, error.error_class) == (code, error_class)
    assert text in str(error) and remedy in str(error)


@contextmanager
def server_that_answers(answer: bytes) -> Iterator[int]:
    """A port at which each client is answered so, whatever it says."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    client, _ = listener.accept()
                except OSError:
                    return
                with closing(client):
                    client.recv(8)
                    client.sendall(b"N")  # no TLS
                    client.recv(4096)
                    client.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(10)


def test_a_message_in_another_encoding_is_shown(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    # A server sends it in the encoding of its own messages, before it knows that of the client.
    fields = f"SFATAL\0VFATAL\0C28P01\0M{GERMAN}\0\0".encode("latin-1")
    with server_that_answers(b"E" + struct.pack("!i", len(fields) + 4) + fields) as port:
        monkeypatch.setenv("POSTGRES_PORT", str(port))
        error = failure()
    assert (error.sqlstate, error.error_class) == ("28P01", FATAL)
    assert "Passwort-Authentifizierung f\N{REPLACEMENT CHARACTER}r Benutzer" in str(error)


def test_a_cut_connection_is_transient(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    with server_that_answers(b"") as port:
        monkeypatch.setenv("POSTGRES_PORT", str(port))
        error = failure()
    assert (error.sqlstate, error.error_class) == (None, TRANSIENT), str(error)
