"""Reads the messages of a gateway's client, and replaces refused statements by ones that raise the error.

https://www.postgresql.org/docs/current/protocol-message-formats.html
"""

from __future__ import annotations

import itertools
import re
import struct
from collections.abc import Callable
from functools import lru_cache

from sqlglot import TokenType
from sqlglot.errors import SqlglotError

from qupersync_assets.sandbox.rules.dialect import REDSHIFT_SETTINGS, Mode
from qupersync_assets.sandbox.rules.strict import Refusal, State, refusal
from qupersync_assets.sandbox.rules.texts import statements, tokens

_UNTYPED = (0, 705)
_TEXT = 25
_UPPERCASE_NAMES = re.compile(r"\s*set\s+describe_field_name_in_uppercase\s+(?:to|=)\s+'?(\w+)", re.I)
# Parse is checked as if a transaction were open: the session's state counts only when the statement runs.
_READY = State(in_transaction=True)


class Session:
    """The client's side of one session after its start-up packet.

    Args:
        mode: the kind of Redshift to simulate.
        strict: returns whether statements are checked at present.
        on_message: called with the type of every message.
        on_statement: called with each statement before it runs.
        lists_absent, refuse, cursor_limit, uppercase_names: see Gateway.
    """

    def __init__(
        self,
        mode: Mode,
        strict: Callable[[], bool],
        on_message: Callable[[bytes], None],
        on_statement: Callable[[str], None],
        lists_absent: bool = False,
        refuse: Callable[[str], Refusal | None] = lambda _: None,
        cursor_limit: Callable[[], int | None] = lambda: None,
        uppercase_names: bool = False,
    ) -> None:
        self._mode = mode
        self._lists_absent = lists_absent
        self._strict = strict
        self._on_message = on_message
        self._on_statement = on_statement
        self._refuse = refuse
        self._cursor_limit = cursor_limit
        self.uppercase_names = uppercase_names
        self._state = State()
        self._prepared: dict[bytes, str] = {}
        self._buffer = b""
        self._pass_through = 0  # remaining bytes of a message that is passed on unchanged

    def feed(self, data: bytes) -> bytes:
        """Return the bytes to send to the server after the client has sent `data`."""
        ready: list[bytes] = []
        data = self._buffer + data
        while data:
            if self._pass_through:
                ready.append(data[: self._pass_through])
                self._pass_through -= len(ready[-1])
                data = data[len(ready[-1]) :]
                continue
            if len(data) < 5:
                break
            kind, length = data[:1], struct.unpack_from("!i", data, 1)[0]
            change = {b"P": self._parse, b"Q": self._query, b"B": self._bind}.get(kind)
            if change is not None and length >= 4:
                if len(data) <= length:
                    break
                ready.append(change(data[5 : length + 1]))
                data = data[length + 1 :]
            else:
                self._pass_through = max(length, 4) + 1
            self._on_message(kind)
        self._buffer = data
        return b"".join(ready)

    def _parse(self, body: bytes) -> bytes:
        name, text, types = body.split(b"\0", 2)
        statement = _decode(text)
        self._prepared[name] = statement
        refused = self._refusal(statement, _READY)
        if refused is None:
            limited = _with_cursor_limit(rewritten(statement), self._cursor_limit())
            return _message(b"P", name + b"\0" + _encode(limited) + b"\0" + types)
        return _message(b"P", name + b"\0" + _error_statement(refused) + b"\0" + _with_types(types, statement))

    def _bind(self, body: bytes) -> bytes:
        portal, name, _ = body.split(b"\0", 2)
        statement = self._prepared.get(name, "")
        self._on_statement(statement)
        injected = self._refuse(statement)
        refused = injected or self._refusal(statement, self._state)
        self._track(statement, refused)
        if refused is None or (not injected and self._refusal(statement, _READY) is not None):
            return _message(b"B", body)
        # The prepared statement is kept: it may be allowed later.
        parse = _message(b"P", b"\0" + _error_statement(refused) + b"\0\0\0")
        no_values = bytes(6)  # of the statement that raises the error: parameter formats, parameters, result formats
        return parse + _message(b"B", portal + b"\0\0" + no_values)

    def _query(self, body: bytes) -> bytes:
        statement = _decode(body[:-1])
        self._on_statement(statement)
        refused = self._refuse(statement) or self._refusal(statement, self._state)
        self._track(statement, refused)
        text = _encode(rewritten(statement)) if refused is None else _error_statement(refused)
        return _message(b"Q", text + b"\0")

    def _refusal(self, text: str, state: State) -> Refusal | None:
        if not self._strict():
            return None
        state = State(state.in_transaction, state.cursor_open)
        try:
            for statement in statements(text):
                if refused := refusal(statement, self._mode, state, self._lists_absent):
                    return refused
                state.track(statement)
        except SqlglotError as error:
            return Refusal("42601", f"syntax error: {str(error).splitlines()[0]}")
        return None

    def _track(self, text: str, refused: Refusal | None) -> None:
        if refused is None:
            if set_to := _UPPERCASE_NAMES.match(text):
                self.uppercase_names = set_to[1].lower() in ("on", "true", "1")
            try:
                for statement in statements(text):
                    self._state.track(statement)
            except SqlglotError:
                pass  # the server reports the error


def _with_cursor_limit(statement: str, limit: int | None) -> str:
    """Return a DECLARE whose first FETCH fails if the whole result has more than `limit` bytes, as Redshift's does."""
    declare, cursor_for, select = statement.partition(" CURSOR FOR ")
    if limit is None or not cursor_for:
        return statement
    size = "(SELECT sum(pg_column_size(r)) FROM result r)"
    return (
        f"{declare}{cursor_for}WITH result AS MATERIALIZED ({select}) "
        f"SELECT * FROM result WHERE redshift.check_cursor({size}::bigint, {limit})"
    )


@lru_cache(maxsize=1024)
def rewritten(statement: str) -> str:
    """Return the statement with Redshift's settings and catalog names replaced by those of the sandbox."""
    try:
        parts = tokens(statement)
    except SqlglotError:
        return statement
    changes = []
    for part, following in itertools.pairwise(parts):
        is_schema = part.token_type is not TokenType.STRING and part.text.lower() == "pg_catalog"
        if is_schema and following.token_type is TokenType.DOT:
            changes.append((part.start, following.end + 1, ""))
    if parts and parts[0].text.lower() in ("set", "reset", "show"):
        names = [p for p in parts[1:] if p.text.lower() not in ("session", "local")]
        if names and names[0].text.lower() in REDSHIFT_SETTINGS:
            changes.append((names[0].start, names[0].end + 1, f"redshift.{names[0].text.lower()}"))
    for start, end, text in reversed(changes):
        statement = statement[:start] + text + statement[end:]
    return statement


def _error_statement(refused: Refusal) -> bytes:
    sqlstate, message = (text.replace("\0", "").replace("'", "''") for text in refused)
    return _encode(f"SELECT redshift.refuse('{sqlstate}', '{message}')")


def _with_types(types: bytes, statement: str) -> bytes:
    """Return the parameter types of a Parse message, complete, so that the bound values stay valid."""
    (count,) = struct.unpack_from("!h", types)
    given = list(struct.unpack_from(f"!{count}i", types, 2))
    needed = max([count, *(int(number) for number in re.findall(r"\$(\d{1,4})", statement))])
    given += [0] * (needed - count)
    known = [_TEXT if oid in _UNTYPED else oid for oid in given]
    return struct.pack(f"!h{needed}i", needed, *known)


def _message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!i", len(body) + 4) + body


def _decode(text: bytes) -> str:
    return text.decode("utf-8", "surrogateescape")


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
