"""Secrets with characters that many formats escape, and a search that finds them when escaped."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from secrets import token_hex

from psycopg2 import sql

from qupersync_assets.sandbox import Sandbox

# Characters that some format escapes. They stand between marks that no format escapes, which are searched.
TRICKY = "'\"%\\ @/:?&+=#{0}é漢"


class Secrets:
    """Creates secrets, and finds them in texts."""

    def __init__(self) -> None:
        self._marks: list[str] = []

    def make(self, between: str = TRICKY) -> str:
        marks = token_hex(5), token_hex(5)
        self._marks += marks
        return between.join(marks)

    def in_(self, text: str) -> list[str]:
        """Return the places of the text that contain a secret."""
        return [text[max(text.index(m) - 80, 0) : text.index(m) + 60] for m in self._marks if m in text]


@contextmanager
def tricky_passwords(sandbox: Sandbox, made: Secrets) -> Iterator[dict[str, str]]:
    """Set tricky passwords in both databases for the context; yield them by variable."""
    users = {"REDSHIFT_PASSWORD": "qupersync_reader", "POSTGRES_PASSWORD": "qupersync"}
    before = sandbox.environment()

    def change(passwords: dict[str, str]) -> None:
        with closing(sandbox.connect_quper()) as connection, connection, connection.cursor() as cursor:
            for name, user in users.items():
                cursor.execute(
                    sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(user), sql.Literal(passwords[name]))
                )

    passwords = {name: made.make() for name in users}
    change(passwords)
    try:
        yield passwords
    finally:
        change(before)
