"""Errors of both drivers: their class, the variable in their message, and redacted secrets."""

from __future__ import annotations

import errno
import json
import socket
import ssl
import time
import traceback
import urllib.parse
from collections.abc import Callable
from typing import Any

import psycopg2
import psycopg2.errors
import pytest
import redshift_connector
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st
from redshift_connector.error import InterfaceError, OperationalError

from qupersync_assets.core.errors import ErrorClass, classify, sync_error
from qupersync_assets.core.redaction import Redacted, learn_secret, redact, redact_exceptions, redacted

ROW, TRANSIENT, FATAL = ErrorClass.ROW, ErrorClass.TRANSIENT, ErrorClass.FATAL

SQLSTATES = {
    "22001": ROW,  # too long
    "22003": ROW,  # out of range
    "22008": ROW,  # date out of range
    "22021": ROW,  # not in the encoding
    "22P02": ROW,  # does not parse
    "23502": ROW,  # NULL
    "23505": ROW,  # a second row of that key
    "23514": ROW,  # a check that readers may have added
    "54000": ROW,  # index entry too large
    "08006": TRANSIENT,  # connection failure
    "40001": TRANSIENT,  # serialization failure
    "40P01": TRANSIENT,  # deadlock
    "53100": TRANSIENT,  # disk full
    "53300": TRANSIENT,  # too many connections
    "55P03": TRANSIENT,  # lock not available
    "57014": TRANSIENT,  # statement time-out
    "57P01": TRANSIENT,  # shut down by an administrator
    "57P03": TRANSIENT,  # starting up
    "58030": TRANSIENT,  # input or output error
    "28000": FATAL,  # login refused
    "28P01": FATAL,  # wrong password
    "3D000": FATAL,  # no such database
    "42501": FATAL,  # no privilege
    "42601": FATAL,  # syntax
    "42703": FATAL,  # no such column
    "42P01": FATAL,  # no such table
    "54001": FATAL,  # statement too complex
    "XX000": FATAL,  # internal error
}


def of_psycopg2(code: str, text: str = "refused") -> psycopg2.Error:
    """Return the error of psycopg2 for a code; without a server only unpickling sets the code."""
    error: psycopg2.Error = psycopg2.errors.lookup(code)(text)
    error.__setstate__({"pgcode": code, "pgerror": f"ERROR:  {text}"})
    return error


def of_redshift(code: str, text: str = "refused") -> Exception:
    """Return the error of redshift_connector for a code, with protocol fields."""
    kind = {"28000": "InterfaceError", "23505": "IntegrityError"}.get(code, "ProgrammingError")
    fields = {"S": "ERROR", "C": code, "M": text, "F": "file.cpp", "L": "1", "R": "routine"}
    error: Exception = getattr(redshift_connector, kind)(fields)
    return error


def of_sqlalchemy(error: Exception, parameters: dict[str, Any] | None = None) -> Exception:
    wrapped = sa.exc.DBAPIError.instance("INSERT INTO t VALUES (:a)", parameters, error, psycopg2.Error)
    assert wrapped.orig is error
    return wrapped


@pytest.mark.parametrize(("code", "expected"), SQLSTATES.items())
def test_sqlstate_has_the_same_class_in_each_driver(code: str, expected: ErrorClass) -> None:
    for error in (of_psycopg2(code), of_redshift(code), of_sqlalchemy(of_psycopg2(code))):
        assert classify(error) is expected
        failure = sync_error(error, "POSTGRES", "Writing failed")
        assert failure.sqlstate == code and code in str(failure)
        assert failure.error_class is (FATAL if expected is ROW else expected)


NO_NAME = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
NO_ANSWER = socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
REFUSED = ConnectionRefusedError(111, "Connection refused")
UNTRUSTED = ssl.SSLCertVerificationError(1, "certificate verify failed: self-signed certificate")


@pytest.mark.parametrize(
    ("error", "expected", "variable"),
    [
        (NO_NAME, FATAL, "REDSHIFT_HOST"),
        (InterfaceError("communication error", NO_NAME), FATAL, "REDSHIFT_HOST"),
        (NO_ANSWER, TRANSIENT, "REDSHIFT_HOST"),
        (REFUSED, TRANSIENT, "REDSHIFT_PORT"),
        (InterfaceError("communication error", REFUSED), TRANSIENT, "REDSHIFT_PORT"),
        (TimeoutError("timed out"), TRANSIENT, "security groups"),
        (OperationalError("connection time out", TimeoutError()), TRANSIENT, "security groups"),
        (OSError(errno.EHOSTUNREACH, "No route to host"), TRANSIENT, "a cluster is paused"),
        (of_redshift("XX000", "could not open relation with OID 123456"), TRANSIENT, ""),
        *((of_redshift("XX000", str(number)), TRANSIENT, "") for number in (1018, 1020, 1023)),
        (of_redshift("XX000", "conflict with concurrent transaction"), TRANSIENT, ""),
        (of_redshift("XX000", "Assert: 10230 rows"), FATAL, ""),
        (of_redshift("25006", "cannot execute INSERT in a read-only transaction"), TRANSIENT, "REDSHIFT_HOST"),
        (ConnectionResetError(104, "Connection reset by peer"), TRANSIENT, ""),
        (InterfaceError("BrokenPipe: server socket closed."), TRANSIENT, ""),
        (UNTRUSTED, FATAL, "REDSHIFT_SSL"),
        (InterfaceError("communication error", UNTRUSTED), FATAL, "REDSHIFT_SSL"),
        (InterfaceError("Server refuses SSL"), FATAL, "REDSHIFT_SSL"),
        (ssl.SSLEOFError(8, "EOF occurred in violation of protocol"), TRANSIENT, ""),
        (of_redshift("28000", "password authentication failed"), FATAL, "REDSHIFT_PASSWORD"),
        (of_redshift("3D000", 'database "x" does not exist'), FATAL, "REDSHIFT_DATABASE"),
        (of_redshift("42501", "permission denied for relation stl_scan"), FATAL, "REDSHIFT_USER"),
        (of_redshift("42P01", 'relation "stl_scan" does not exist'), FATAL, "REDSHIFT_USER"),
        (of_redshift("57014", "canceled"), TRANSIENT, "REDSHIFT_STATEMENT_TIMEOUT"),
        (ValueError("a mistake in the program"), FATAL, ""),
    ],
    ids=lambda value: str(value)[:50],
)
def test_errors_of_the_redshift_side(error: Exception, expected: ErrorClass, variable: str) -> None:
    failure = sync_error(error, "REDSHIFT", "Reading failed")
    assert failure.error_class is classify(error) is expected
    assert str(failure).startswith("Reading failed: ") and "\n" not in str(failure)
    assert variable in str(failure)


# Messages of libpq for failed connections, which have no code.
AT = 'connection to server at "db" (10.0.0.1), port 5432 failed: '


@pytest.mark.parametrize(
    ("text", "expected", "variable"),
    [
        (f"{AT}fe_sendauth: no password supplied\n", FATAL, "POSTGRES_PASSWORD"),
        ('could not translate host name "db" to address: Name or service not known\n', FATAL, "POSTGRES_HOST"),
        (
            'could not translate host name "db" to address: Temporary failure in name resolution\n',
            TRANSIENT,
            "POSTGRES_HOST",
        ),
        (f"{AT}server does not support SSL, but SSL was required\n", FATAL, "POSTGRES_SSLMODE"),
        (f"{AT}SSL error: certificate verify failed\n", FATAL, "POSTGRES_SSL_CA"),
        (f'{AT}root certificate file "/root.crt" does not exist\n', FATAL, "POSTGRES_SSL_CA"),
        (f'{AT}server certificate for "a" does not match host name "b"\n', FATAL, "POSTGRES_SSLMODE"),
        (f"{AT}Connection refused\n\tIs the server running on that host?\n", TRANSIENT, "POSTGRES_PORT"),
        (f"{AT}timeout expired\n", TRANSIENT, ""),
        ("SSL SYSCALL error: EOF detected\n", TRANSIENT, ""),
        ("SSL error: unexpected eof while reading\n", TRANSIENT, ""),
        ("SSL connection has been closed unexpectedly\n", TRANSIENT, ""),
        ("server closed the connection unexpectedly\n\tThis probably means\n", TRANSIENT, ""),
    ],
    ids=lambda value: str(value).removeprefix(AT).strip()[:50],
)
def test_errors_of_a_connection_to_postgresql(text: str, expected: ErrorClass, variable: str) -> None:
    for error in (psycopg2.OperationalError(text), of_sqlalchemy(psycopg2.OperationalError(text))):
        failure = sync_error(error, "POSTGRES", "Writing failed")
        assert failure.error_class is classify(error) is expected
        assert "\n" not in str(failure)
        assert variable in str(failure)


def test_refused_connection_is_transient() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        engine = sa.create_engine(f"postgresql+psycopg2://u@127.0.0.1:{unused.getsockname()[1]}/d")
        with pytest.raises(sa.exc.OperationalError) as refusal:
            engine.connect()
    assert classify(refusal.value) is TRANSIENT


def test_pool_without_a_free_connection_is_transient() -> None:
    assert classify(sa.exc.TimeoutError("QueuePool limit of size 2 overflow 10 reached")) is TRANSIENT
    assert classify(psycopg2.InterfaceError("connection already closed")) is TRANSIENT


def test_message_has_no_parameters_of_the_statement() -> None:
    error = of_sqlalchemy(of_psycopg2("42501", "permission denied"), {"a": "hunter2"})
    assert "hunter2" in str(error)
    failure = str(sync_error(error, "POSTGRES", "Writing failed"))
    assert "hunter2" not in failure and "INSERT" not in failure


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("login with hunter2 failed", "login with *** failed"),
        ("postgresql://u:hunter2-and-more@h/d", "postgresql://u:***@h/d"),
        ("hunter2hunter2", "******"),
        ("nothing to hide", "nothing to hide"),
    ],
)
def test_passwords_are_redacted(monkeypatch: pytest.MonkeyPatch, text: str, redacted: str) -> None:
    monkeypatch.setenv("REDSHIFT_PASSWORD", "hunter2")
    monkeypatch.setenv("POSTGRES_PASSWORD", "hunter2-and-more")
    assert redact(text) == redacted


ESCAPES = [
    urllib.parse.quote,
    urllib.parse.quote_plus,
    lambda text: urllib.parse.quote(text, safe=" +"),  # SQLAlchemy's URLs
    lambda text: json.dumps(text)[1:-1],
    lambda text: json.dumps(text, ensure_ascii=False)[1:-1],
    lambda text: repr(text)[1:-1],
    lambda text: ascii(text)[1:-1],
    lambda text: repr(text.encode())[2:-1],
    lambda text: text.replace("'", "''"),
    lambda text: text.replace("\\", "\\\\").replace("'", "\\'"),  # connection strings
    lambda text: text.replace("%", "%%"),
]
TRICKY = "p'w\"%\\ @/:é漢😀+=&{0}"


@given(
    # Not a short word, which would be redacted in quotes only.
    secret=st.just(TRICKY)
    | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])).map(lambda text: f"q7{text}z9"),
    escapes=st.lists(st.sampled_from(ESCAPES), max_size=2),
)
def test_escaped_secret_is_redacted(secret: str, escapes: list[Callable[[str], str]]) -> None:
    text = secret
    for escape in escapes:
        text = escape(text)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("REDSHIFT_PASSWORD", "POSTGRES_PASSWORD"):
            patch.delenv(name, raising=False)
        patch.setenv("REDSHIFT_SESSION_TOKEN", secret)
        assert set(redact(f"<{text}>").replace("***", "*")) <= set("<*>")


def test_redaction_of_many_escapes_is_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDSHIFT_PASSWORD", "\\" * 10 + "'" * 3 + "   % \\\\x")
    started = time.process_time()
    for text in ("\\" * 5_000, "'" * 5_000, " " * 5_000, "%25" * 5_000):
        assert redact(text) == text
    assert time.process_time() - started < 5


def test_error_without_secrets_is_not_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POSTGRES_PASSWORD", TRICKY)
    error = ValueError("nothing to hide")
    assert redacted(error) is error
    with pytest.raises(ValueError, match="nothing"), redact_exceptions():
        raise error


def test_secrets_in_an_error_and_its_cause_are_redacted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POSTGRES_PASSWORD", TRICKY)
    with pytest.raises(Redacted) as caught, redact_exceptions():
        try:
            raise KeyError({"password": TRICKY})
        except KeyError as error:
            raise ValueError("the second") from error
    text = "".join(traceback.format_exception(caught.value))
    assert "the second" in text and "KeyError" in text and "***" in text
    assert "p'w" not in text


def test_message_has_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDSHIFT_PASSWORD", "two  spaces\nand a line")
    for error in (of_redshift("28P01", "not two  spaces\nand a line"), OSError("two  spaces\nand a line")):
        failure = sync_error(error, "REDSHIFT", "Reading failed")
        assert "***" in str(failure) and "***" in failure.server_message
        assert "spaces" not in f"{failure} {failure.server_message}"


def test_secret_from_aws_is_redacted() -> None:
    learn_secret("from-aws")
    learn_secret(None)
    assert redact("from-aws is not shown") == "*** is not shown"


ALERT_URLS = (
    "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/#alerts, mailtos://bot:p%40ss@mail.example.com/?to=a@b.com,c@d.com "
    "json://hooks.example.com/my/hidden/path?+Authorization=Bearer%20correct1horse opsgenie://8b799edf-6f98-4d3a-9be7-2862fb4e5752"
)


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        (f"ALERT_URLS={ALERT_URLS}", "ALERT_URLS=***"),
        (repr({"ALERT_URLS": ALERT_URLS}), "{'ALERT_URLS': '***'}"),
        ("url: /services/T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ", "url: /services/***/***/***"),
        ("slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/#alerts", "***"),
        ("login of bot with p@ss at mail.example.com", "login of bot with *** at mail.example.com"),
        ("mailtos://bot:p%40ss@mail.example.com/", "mailtos://bot:***@mail.example.com/"),
        ("http://hooks.example.com/my/hidden/path", "http://hooks.example.com***"),
        ("{'Authorization': 'Bearer correct1horse'}", "{'Authorization': 'Bearer ***'}"),
        ("GenieKey 8b799edf-6f98-4d3a-9be7-2862fb4e5752", "GenieKey ***"),
        ("job alerts, path of mail at example.com", "job alerts, path of mail at example.com"),
    ],
)
def test_alert_urls_and_their_secret_parts_are_redacted(monkeypatch: pytest.MonkeyPatch, text: str, clean: str) -> None:
    monkeypatch.setenv("ALERT_URLS", ALERT_URLS)
    assert redact(text) == clean


def test_an_empty_password_redacts_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDSHIFT_PASSWORD", "")
    monkeypatch.delenv("POSTGRES_PASSWORD", raising=False)
    assert redact("as it is") == "as it is"
