"""Secrets that are escaped wherever something is, and that are known again all the same."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from secrets import token_hex

from psycopg2 import sql

from qupersync_assets.sandbox import Sandbox

# What is escaped somewhere, between marks that no escaping changes and that are looked for.
TRICKY = "'\"%\\ @/:?&+=#{0}é漢"


class Secrets:
    """Makes secrets, and knows again every one that it made."""

    def __init__(self) -> None:
        self._marks: list[str] = []

    def make(self, between: str = TRICKY) -> str:
        marks = token_hex(5), token_hex(5)
        self._marks += marks
        return between.join(marks)

    def in_(self, text: str) -> list[str]:
        """Where the text tells one."""
        return [text[max(text.index(m) - 80, 0) : text.index(m) + 60] for m in self._marks if m in text]


@contextmanager
def tricky_passwords(sandbox: Sandbox, made: Secrets) -> Iterator[dict[str, str]]:
    """Both databases have tricky passwords meanwhile; yields them by their variables."""
    users = {"REDSHIFT_PASSWORD": "qupersync_reader", "POSTGRES_PASSWORD": "qupersync"}
    before = sandbox.environment()

    def change(passwords: dict[str, str]) -> None:
        with closing(sandbox.connect_quper()) as connection, connection, connection.cursor() as cursor:
            for name, user in users.items():
                cursor.execute(
                    sql.SQL("ALTER ROLE {} PASSWORD {}").format(
                        sql.Identifier(user), sql.Literal(passwords[name])
                    )
                )

    passwords = {name: made.make() for name in users}
    change(passwords)
    try:
        yield passwords
    finally:
        change(before)
