"""Classifies errors of both databases by SQLSTATE: invalid row, transient, or fatal.

Classes: https://www.postgresql.org/docs/current/errcodes-appendix.html. Redshift reports the same codes; its
driver raises them as a dict of protocol fields, with the code under "C" and the message under "M".
"""

import errno
import re
import socket
import ssl
from enum import Enum
from typing import Any

from qupersync_assets.core.redaction import redact

# SQLSTATEs that other modules compare with.
DEADLOCK_DETECTED = "40P01"
FEATURE_NOT_SUPPORTED = "0A000"
INTERNAL_ERROR = "XX000"
INSUFFICIENT_PRIVILEGE = "42501"
LOCK_NOT_AVAILABLE = "55P03"
READ_ONLY_TRANSACTION = "25006"
UNDEFINED_COLUMN = "42703"
UNDEFINED_TABLE = "42P01"
# A cluster that AWS reports as paused.
PAUSED = "PAUSED"
# Names of `_REMEDIES`: no server answered.
NO_ANSWER = ("HOST", "DNS", "PORT", "UNREACHABLE", PAUSED)
# The server refuses the user or the password: Redshift's own code is 28000, PostgreSQL's 28P01.
LOGIN_REFUSED = ("28000", "28P01")
# Redshift refuses a view: no privilege, not on this kind of cluster, not supported there, or missing.
REFUSED = (INSUFFICIENT_PRIVILEGE, FEATURE_NOT_SUPPORTED, UNDEFINED_TABLE)


class ErrorClass(Enum):
    """How to react to an error."""

    ROW = "row"  # invalid data of one row: skip the row
    TRANSIENT = "transient"  # try again
    FATAL = "fatal"  # fail the job: a user must fix the cause


class SyncError(Exception):
    """A sync job cannot continue; the text is one sentence without secrets, the class TRANSIENT or FATAL.

    `sqlstate` is None if the error is not of a server; `server_message` is that of the server or the driver alone.
    `problem` is the SQLSTATE or the name of an error without one, see `_REMEDIES`; "" if it is not known. `connection`
    is the state of the source's cluster if its login failed.
    """

    def __init__(
        self,
        message: str,
        error_class: ErrorClass,
        sqlstate: str | None = None,
        server_message: str = "",
        problem: str = "",
    ) -> None:
        super().__init__(message)
        self.error_class = error_class
        self.sqlstate = sqlstate
        self.server_message = server_message
        self.problem = problem
        self.connection = ""


class InstanceError(RuntimeError):
    """The Dagster instance cannot be used; the message says why."""


# 54000: an index entry is too large, because of one row. 44: a view's check. P0: a trigger raises an exception.
_ROW = ("22", "23", "44", "54000", "P0")
# Classes of PostgreSQL and Redshift; an exception of a trigger may have another one.
_STANDARD = re.compile("0[0-389ABFLPZ]|10|2[0-8BDF]|3[489BDF]|4[024]|5[34578]|72|F0|HV|P0|XX")
_TRANSIENT = ("DNS", "PORT", "UNREACHABLE", "AWS-BUSY", "08", READ_ONLY_TRANSACTION, "40", "53", "55", "57", "58")
# Redshift reports INTERNAL_ERROR for many causes. These pass: a relation was dropped or replaced meanwhile (1018,
# 1020), or a concurrent transaction had priority (1023).
_PASSING = re.compile(r"could not open relation with OID|\b10(18|20|23)\b|conflict with concurrent transaction", re.I)
# A cursor's whole result is limited: https://docs.aws.amazon.com/redshift/latest/dg/declare.html
_CURSOR_LIMIT = re.compile(r"exceeded the maximum size .*cursor data", re.I | re.S)
# Errors of the drivers that are transient if they have no SQLSTATE.
_DISCONNECTIONS = {"OperationalError", "InterfaceError", "TimeoutError"}

# Remedies by SQLSTATE. Errors without one have names: HOST does not resolve, DNS does not answer, PORT is
# closed, TLS fails, AWS refuses. {login} stands for the variables of the login.
_REMEDIES = {
    "HOST": "Check {side}_HOST.",
    "DNS": "Check {side}_HOST, and the DNS server of this machine.",
    "PORT": "Check {side}_HOST and {side}_PORT.",
    "UNREACHABLE": "Check {side}_HOST and {side}_PORT, whether the server runs or a cluster is paused, and whether "
    "security groups, the VPC and firewalls let this machine connect.",
    "TLS": "Check {side}_SSLMODE, and whether the server supports TLS with a certificate for this host.",
    "TLS-NONE": "Check {side}_HOST and {side}_PORT: this server does not support TLS, which {side}_SSL=true requires.",
    "TLS-HOST": "Check {side}_HOST: the certificate is for another name. {side}_SSLMODE=verify-ca accepts it.",
    "TLS-CA": "No trusted CA signed the server's certificate: set {side}_SSL_CA to the file of your private CA.",
    "TLS-DATE": "The server's certificate is not valid today: check the clock of this machine, and {side}_HOST.",
    "CURSOR-LIMIT": "The result is larger than the cluster's limit for cursors; larger nodes have a higher limit.",
    "AWS": "Check {login}.",
    "AWS-BUSY": "If the error persists, check {login}.",
    "28P01": "Check {login}.",
    "28000": "Check {login}, and that this user may log in from here.",
    "3D000": "Check {side}_DATABASE.",
    INSUFFICIENT_PRIVILEGE: "{side}_USER lacks a privilege: `qupersync doctor` prints the GRANT statement.",
    UNDEFINED_TABLE: "There is no such relation for {side}_USER: check its privileges and the kind of cluster.",
    UNDEFINED_COLUMN: "This version of the server does not have a documented column.",
    LOCK_NOT_AVAILABLE: "Another session holds the lock: end its transaction, or wait until it ends.",
    READ_ONLY_TRANSACTION: "The server is read-only: after a failover, set {side}_HOST to the new primary.",
    "57014": "The statement took longer than {side}_STATEMENT_TIMEOUT.",
}

# libpq reports what it finds itself without a code. What a server refuses has one: see postgres/connection.py.
_REFUSALS: dict[str, str | None] = {
    "no password supplied": "28P01",
    "Temporary failure in name resolution": "DNS",
    "Connection refused": "PORT",
    "No route to host": "UNREACHABLE",
    "Network is unreachable": "UNREACHABLE",
    "timeout expired": "UNREACHABLE",
    "Connection timed out": "UNREACHABLE",
    "could not translate host name": "HOST",
    "Server refuses SSL": "TLS-NONE",
    "does not match host name": "TLS-HOST",
    "certificate verify failed": "TLS-CA",
    "root certificate file": "TLS-CA",
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
    """Return the innermost error: of the driver below SQLAlchemy, of a socket or boto3 below the driver."""
    error = getattr(error, "orig", None) or error
    return next((a for a in error.args if isinstance(a, Exception)), error)


def _fields(error: BaseException) -> dict[str, str]:
    """Return the protocol fields of an error of redshift_connector."""
    fields = error.args[0] if error.args else None
    return fields if isinstance(fields, dict) else {}


def sqlstate(error: BaseException) -> str | None:
    """Return the SQLSTATE of an error of a driver or of SQLAlchemy, or a name of `_REMEDIES`."""
    original = _original(error)
    if fields := _fields(original):
        return fields.get("C")
    if type(original).__module__.startswith("botocore."):
        return _aws_code(original)
    if isinstance(original, socket.gaierror):
        return "DNS" if original.errno == socket.EAI_AGAIN else "HOST"
    if isinstance(original, ConnectionRefusedError):
        return "PORT"
    if isinstance(original, TimeoutError) or getattr(original, "errno", None) in (
        errno.EHOSTUNREACH,
        errno.ENETUNREACH,
    ):
        return "UNREACHABLE"
    if isinstance(original, ssl.SSLEOFError | ssl.SSLZeroReturnError | ssl.SSLSyscallError):
        return None  # cut off, not refused
    if isinstance(original, ssl.SSLError):
        return _UNVERIFIED.get(getattr(original, "verify_code", 0), "TLS")
    code: str | None = getattr(original, "pgcode", None)
    return code or next((c for text, c in _REFUSALS.items() if text in str(original)), None)


def _aws_code(error: BaseException) -> str:
    """Return AWS-BUSY if AWS cannot be reached, throttles or has an internal error; else AWS.

    https://docs.aws.amazon.com/boto3/latest/guide/error-handling.html
    """
    response: Any = getattr(error, "response", {})
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    code = response.get("Error", {}).get("Code", "")
    throttled = "Throttl" in code or "LimitExceeded" in code
    unreachable = {"ConnectionError", "HTTPClientError", "CredentialRetrievalError"}
    if throttled or status >= 500 or unreachable & _class_names(error):
        return "AWS-BUSY"
    return "AWS"


def _class_names(error: BaseException) -> set[str]:
    return {kind.__name__ for kind in type(error).__mro__}


def classify(error: BaseException) -> ErrorClass:
    """Return the class of an error of either driver."""
    code = sqlstate(error)
    if code is not None and (code.startswith(_ROW) or (len(code) == 5 and not _STANDARD.match(code))):
        return ErrorClass.ROW
    if code == INTERNAL_ERROR:
        return ErrorClass.TRANSIENT if _PASSING.search(message(error)) else ErrorClass.FATAL
    original = _original(error)
    disconnected = isinstance(original, OSError) or bool(_DISCONNECTIONS & _class_names(original))
    is_transient = disconnected if code is None else code.startswith(_TRANSIENT)
    return ErrorClass.TRANSIENT if is_transient else ErrorClass.FATAL


def is_over_cursor_limit(error: BaseException) -> bool:
    """Return whether Redshift refused a cursor whose whole result is larger than the cluster allows."""
    return sqlstate(error) == INTERNAL_ERROR and bool(_CURSOR_LIMIT.search(message(error)))


def is_refusal(error: BaseException) -> bool:
    """Return whether the server refused a statement and the session of redshift_connector is still usable."""
    return bool(_fields(error)) and classify(error) is not ErrorClass.TRANSIENT


def message(error: BaseException) -> str:
    """Return the message of the server or the driver, on one line and without secrets."""
    original = _original(error)
    fields = _fields(original)
    # Some messages of Redshift are a number, explained in the detail.
    shown = ": ".join(fields[key] for key in "MD" if key in fields) or str(fields)
    text = redact(shown if fields else str(original))
    lines = [line.strip() for line in text.splitlines()]
    # libpq asks whether the server is running; the remedies say it better.
    one_line = " ".join(line for line in lines if line and not line.startswith("Is the server running"))
    return one_line or type(original).__name__


def sync_error(error: BaseException, side: str, doing: str, login: str | None = None) -> SyncError:
    """Turn an error of a driver or of SQLAlchemy into a SyncError, whose message begins with `doing`.

    `side` is the prefix of the variables to check; `login` names those of the login, if not its USER and PASSWORD.
    """
    code = sqlstate(error)
    login = login or f"{side}_USER and {side}_PASSWORD"
    problem = "CURSOR-LIMIT" if is_over_cursor_limit(error) else code or ""
    remedy = _REMEDIES.get(problem, "").format(side=side, login=login)
    error_class = ErrorClass.TRANSIENT if classify(error) is ErrorClass.TRANSIENT else ErrorClass.FATAL
    state = code if code and len(code) == 5 else None
    text = message(error) + (f" (SQLSTATE {state})" if state else "")
    return SyncError(f"{doing}: {text.removesuffix('.')}. {remedy}".strip(), error_class, state, text, problem)
