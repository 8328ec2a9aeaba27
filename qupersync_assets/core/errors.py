"""Which errors are one row's, which pass, and which need somebody: by SQLSTATE, in this one place.

Classes: https://www.postgresql.org/docs/current/errcodes-appendix.html. Redshift reports the same codes; its
driver raises them as a dict of protocol fields, with the code under "C" and the message under "M".
"""

from __future__ import annotations

import os
import re
import socket
import ssl
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from functools import cache
from itertools import groupby
from typing import Any
from urllib.parse import unquote, urlsplit


class ErrorClass(Enum):
    """What an error asks for."""

    ROW = "row"  # the data of a row: reject the row, go on
    TRANSIENT = "transient"  # try again
    FATAL = "fatal"  # stop this job until somebody acts


class LoadError(Exception):
    """A sync job that cannot go on: a sentence without secrets, and whether trying again can help.

    Attributes:
        error_class: TRANSIENT or FATAL.
        sqlstate: the code that the server gave, if it was a server that refused.
        said: what the server or the driver said, without what was being done and what to do.
    """

    def __init__(
        self, message: str, error_class: ErrorClass, sqlstate: str | None = None, said: str = ""
    ) -> None:
        super().__init__(message)
        self.error_class = error_class
        self.sqlstate = sqlstate
        self.said = said


# 54000: an index entry that is too large, that is one row's doing.
_ROW = ("22", "23", "54000")
_TRANSIENT = ("DNS", "PORT", "AWS-BUSY", "08", "40", "53", "55", "57", "58")

# What to do, by SQLSTATE. What fails before there is one has a name of its own: HOST does not resolve, DNS
# does not answer, nobody listens on PORT, TLS fails, AWS refuses. {login} are the variables of the login.
_REMEDIES = {
    "HOST": "Check {side}_HOST.",
    "DNS": "Check {side}_HOST, and the name server.",
    "PORT": "Check {side}_HOST and {side}_PORT.",
    "TLS": "Check {side}_SSLMODE, and whether the server speaks TLS with a certificate for this host.",
    "TLS-NONE": "Check {side}_HOST and {side}_PORT: that server speaks no TLS, which {side}_SSL asks for.",
    "TLS-HOST": "Check {side}_HOST: the certificate has another name. {side}_SSLMODE=verify-ca allows it.",
    "TLS-CA": "Check {side}_SSL_CA: no trusted CA has signed the certificate; a private CA goes there.",
    "TLS-DATE": "Check the clock, and {side}_HOST: that server's certificate has to be renewed.",
    "AWS": "Check {login}.",
    "AWS-BUSY": "If it goes on, check {login}.",
    "28P01": "Check {login}.",
    "28000": "Check {login}, and that this user may log in from here.",
    "3D000": "Check {side}_DATABASE.",
    "42501": "{side}_USER lacks a right: `qupersync doctor` names the statement that grants it.",
    "42P01": "The relation is not there for {side}_USER: check the cluster's kind and the user's rights.",
    "42703": "The relation lacks that column: its version differs from the documentation.",
    "55P03": "Another session holds the lock for long: end what it does, or wait for it.",
    "57014": "It took longer than {side}_STATEMENT_TIMEOUT.",
}


# libpq reports a refused connection without a code, only with the server's message.
_REFUSALS: dict[str, str | None] = {
    "password authentication failed": "28P01",
    "no password supplied": "28P01",
    "no pg_hba.conf entry": "28000",
    'FATAL:  role "': "28000",
    '" does not exist': "3D000",
    "Temporary failure in name resolution": "DNS",
    "Connection refused": "PORT",
    "could not translate host name": "HOST",
    "Server refuses SSL": "TLS-NONE",
    "SSL error: unexpected eof": None,
    "SSL error": "TLS",
    "server does not support SSL": "TLS",
    "certificate": "TLS",
}

# X509_V_ERR_* of https://docs.openssl.org/3.0/man3/X509_STORE_CTX_get_error/
_UNVERIFIED = {
    **dict.fromkeys((2, 18, 19, 20, 21), "TLS-CA"),
    **dict.fromkeys((9, 10), "TLS-DATE"),
    **dict.fromkeys((62, 64), "TLS-HOST"),
}


def _original(error: BaseException) -> BaseException:
    """The driver's error below SQLAlchemy's, or the socket's or boto3's below the driver's."""
    error = getattr(error, "orig", None) or error
    return next((a for a in error.args if isinstance(a, Exception)), error)


def sqlstate(error: BaseException) -> str | None:
    """The SQLSTATE, or a name of `_REMEDIES`, of an error of psycopg2, redshift_connector or SQLAlchemy."""
    original = _original(error)
    fields: Any = original.args[0] if original.args else None
    if isinstance(fields, dict):
        return fields.get("C")
    if type(original).__module__.startswith("botocore."):
        return _aws_code(original)
    if isinstance(original, socket.gaierror):
        return "DNS" if original.errno == socket.EAI_AGAIN else "HOST"
    if isinstance(original, ConnectionRefusedError):
        return "PORT"
    if isinstance(original, ssl.SSLEOFError | ssl.SSLZeroReturnError | ssl.SSLSyscallError):
        return None  # cut off, not refused
    if isinstance(original, ssl.SSLError):
        return _UNVERIFIED.get(getattr(original, "verify_code", 0), "TLS")
    code: str | None = getattr(original, "pgcode", None)
    return code or next((c for text, c in _REFUSALS.items() if text in str(original)), None)


def _aws_code(error: BaseException) -> str:
    """AWS, or AWS-BUSY if AWS cannot be reached, throttles or fails itself.

    https://docs.aws.amazon.com/boto3/latest/guide/error-handling.html
    """
    response: Any = getattr(error, "response", {})
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    throttled = any(
        word in response.get("Error", {}).get("Code", "") for word in ("Throttl", "LimitExceeded")
    )
    unreachable = {"ConnectionError", "HTTPClientError", "CredentialRetrievalError"}
    if throttled or status >= 500 or unreachable & {kind.__name__ for kind in type(error).__mro__}:
        return "AWS-BUSY"
    return "AWS"


def classify(error: BaseException) -> ErrorClass:
    """Which class an error of either driver belongs to."""
    code = sqlstate(error)
    if code is not None:
        if code.startswith(_ROW):
            return ErrorClass.ROW
        return ErrorClass.TRANSIENT if code.startswith(_TRANSIENT) else ErrorClass.FATAL
    original = _original(error)
    name = type(original).__name__
    if isinstance(original, OSError) or name in ("OperationalError", "InterfaceError", "TimeoutError"):
        return ErrorClass.TRANSIENT
    return ErrorClass.FATAL


def is_refusal(error: BaseException) -> bool:
    """Whether redshift_connector reports that the server refused a statement and its session goes on."""
    fields: Any = error.args[0] if error.args else None
    return isinstance(fields, dict) and classify(error) is not ErrorClass.TRANSIENT


def message(error: BaseException) -> str:
    """What went wrong, on one line and without secrets, as the server or the driver says it."""
    original = _original(error)
    fields: Any = original.args[0] if original.args else None
    text = redact(str(fields.get("M", fields)) if isinstance(fields, dict) else str(original))
    first = " ".join(line.strip() for line in text.splitlines() if line.strip())
    return first or type(original).__name__


def load_error(error: BaseException, side: str, doing: str, login: str | None = None) -> LoadError:
    """Turn a driver's error into a LoadError.

    Args:
        side: REDSHIFT or POSTGRES, the prefix of the variables to check.
        doing: what was being done, to begin the sentence with.
        login: the variables that the login depends on, if they are not the side's USER and PASSWORD.
    """
    code = sqlstate(error)
    login = login or f"{side}_USER and {side}_PASSWORD"
    remedy = _REMEDIES.get(code or "", "").format(side=side, login=login)
    error_class = ErrorClass.TRANSIENT if classify(error) is ErrorClass.TRANSIENT else ErrorClass.FATAL
    state = code if code and len(code) == 5 else None
    said = message(error) + (f" (SQLSTATE {state})" if state else "")
    return LoadError(f"{doing}: {said}. {remedy}".strip(), error_class, state, said)


# How the names of variables end that hold secrets: those of the settings, boto3's own, and libpq's.
SECRET_SUFFIXES = (
    "_PASSWORD",
    "_ACCESS_KEY_ID",
    "_SECRET_ACCESS_KEY",
    "_SESSION_TOKEN",
    "_SLACK_TOKEN",
    "PGPASSWORD",
)
# Those of URLs, whose password is the secret.
URL_SUFFIXES = ("_BROKER_URL", "_BACKEND_URL")
# Secrets that no variable holds: what AWS has told.
_learned: set[str] = set()


def learn_secret(secret: str | None) -> None:
    """Let `redact` know a secret that is not in the environment."""
    _learned.update([secret] if secret else [])


def redact(text: str) -> str:
    """`text` with every secret in it replaced by ***, also where it is escaped."""
    secrets = {value for name, value in os.environ.items() if name.endswith(SECRET_SUFFIXES) and value}
    secrets |= {_password(value) for name, value in os.environ.items() if name.endswith(URL_SUFFIXES)} - {""}
    for secret in sorted(secrets | _learned, key=len, reverse=True):
        text = _spellings(secret).sub("***", text)
    return text


def _password(url: str) -> str:
    """The password in a URL, "" if it has none."""
    try:
        return unquote(urlsplit(url).password or "")
    except ValueError:  # a bracket in the wrong place
        return url


_PERCENT = "%{1,4}(?:25)*"  # URLs escape it again, formats double it
_LETTERS = {"\n": "n", "\t": "t", "\r": "r", "\b": "b", "\f": "f"}


@cache
def _spellings(secret: str) -> re.Pattern[str]:
    """Matches a secret however it is escaped, in parts and up to three times over too: as in URLs, JSON, SQL,
    connection strings, and Python's repr of str and bytes."""
    # The same character again is a repetition, lest there be too many ways to match.
    return re.compile("".join(_run(character, len(list(run))) for character, run in groupby(secret)))


def _run(character: str, count: int) -> str:
    octets = character.encode("utf-8", "surrogatepass").hex(" ").split()
    in_url = "(?i:" + "".join(f"{_PERCENT}{octet}" for octet in octets) + ")"
    if character.isalnum() and character.isascii():
        return f"(?:{character}|{in_url}){{{count}}}"
    slash = rf"(?:\\|{_PERCENT}5[cC])"
    if character == "\\":
        return f"{slash}{{{count},{8 * count}}}"
    units = re.findall("....", character.encode("utf-16-be", "surrogatepass").hex())
    codes = [[f"x{ord(character):02x}"], [f"u{ord(character):04x}"], [f"U{ord(character):08x}"]]
    escapes = [[f"x{octet}" for octet in octets], [f"u{unit}" for unit in units], *codes]
    ways = ["".join(f"{slash}{{1,8}}{part}" for part in parts) for parts in escapes]
    if character in _LETTERS:
        ways.append(f"{slash}{{1,8}}{_LETTERS[character]}")
    if character == " ":
        ways.append(rf"\+|{_PERCENT}2b")
    plain = f"{slash}{{0,8}}(?:{in_url}|{re.escape(character)})"
    return f"(?:(?i:{'|'.join(ways)})|{plain}){{{count},{4 * count}}}"  # SQL doubles quotes


class Redacted(Exception):
    """Stands for an error that told a secret, or whose cause did; the text is their traceback without it."""


def without_secrets(error: BaseException) -> BaseException:
    """The error, if all that a traceback would tell of it holds no secret; else one that stands for it.

    Dagster stores and shows an error with all that caused it: hence `raise ... from without_secrets(error)`.
    """
    told = "".join(traceback.format_exception(error))
    clean = redact(told)
    return error if clean == told else Redacted(clean)


@contextmanager
def secrets_kept() -> Iterator[None]:
    """Let no error out that tells a secret."""
    try:
        yield
    except Exception as error:
        kept = without_secrets(error)
        if kept is error:
            raise
        raise kept from None
