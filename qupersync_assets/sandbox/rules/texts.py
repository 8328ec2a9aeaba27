"""Splits SQL text into statements and tokens."""

from __future__ import annotations

from functools import lru_cache

import sqlglot
from sqlglot import Token, TokenType

# sqlglot returns the text after one of these as a single token.
_COMMANDS = (TokenType.COMMAND, TokenType.FETCH, TokenType.SHOW, TokenType.EXECUTE, TokenType.RENAME)


def statements(text: str) -> list[str]:
    """Return the statements of a text; raises sqlglot.errors.SqlglotError."""
    found: list[str] = []
    start = 0
    for token in [*tokens(text), None]:
        if token is None or token.token_type is TokenType.SEMICOLON:
            part = text[start : token.start if token else len(text)]
            if tokens(part):
                found.append(part)
            start = token.end + 1 if token else start
    return found


@lru_cache(maxsize=1024)
def tokens(text: str) -> list[Token]:
    """Return the tokens of a text; raises sqlglot.errors.SqlglotError."""
    found: list[Token] = []
    for token in sqlglot.tokenize(text, read="redshift"):
        if found and found[-1].token_type in _COMMANDS and token.token_type is TokenType.STRING:
            found += _tokens_between(text, found[-1].end + 1, token)
        else:
            found.append(token)
    return found


def _tokens_between(text: str, start: int, piece: Token) -> list[Token]:
    begin = text.index(piece.text, start)
    return [Token(t.token_type, t.text, start=begin + t.start, end=begin + t.end) for t in tokens(piece.text)]


def word_list(statement: str) -> list[str]:
    """Return the tokens as text in lower case; raises sqlglot.errors.SqlglotError."""
    return [part.text.lower() for part in tokens(statement)]
