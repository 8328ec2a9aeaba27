"""Texts without the data that they quote: SQL without its literals, error messages without their values.

The functions take any text, cut off anywhere, never raise, and need time in proportion to its length. No
library at hand does that: sqlglot's tokenizer raises where a string is cut off, Pygments knows no backslashes
in strings and shows what follows them, and both are twenty times slower.
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Collection, Iterable, Iterator
from typing import NamedTuple

HIDDEN = "?"

_TAG = r"(?:[^\W\d]\w*+)?\$"  # of a dollar quote, without its first $
_BACKSLASHES = r"'(?:[^'\\]++|''|\\.?)*'?"
_NO_BACKSLASHES = r"'(?:[^']++|'')*'?"


def _reading(string: str) -> re.Pattern[str]:
    """One token that hides something, and before it all that may stay; `string` is an ordinary string.

    What has no end goes to the end of the text. After the repetition one of the alternatives always matches,
    the end of the text if nothing else, so that none is taken back: hence the linear time. Only single
    characters are repeated possessively, because with groups Python does it wrong before 3.11.5:
    https://github.com/python/cpython/issues/106052.
    """
    return re.compile(
        rf"""
        (?: (?! [BbEeNnXx]' | [Uu]&' ) [^\W\d]\w*+ (?: \$ (?! {_TAG} ) \w*+ )* [^\w'"$./-]*+
          | [^\w'"$./-]++
          | \. (?! \d )
          | \$ (?! {_TAG} ) \d*+  # also a placeholder
          | / (?! \* )
          | - (?! - )
        )*
        (?: (?P<literal> (?: [BbNnXx] | [Uu]& )? {string}
              | [Ee] {_BACKSLASHES}
              | \.? \d\w*+ (?: \.\w++ )* (?: (?<= [Ee] ) [+-] \d\w*+ )*
              | " (?: [^"]++ | "" )* \Z
            )
          | (?P<name> " (?: [^"]++ | "" )* " )
          | (?P<tag> \$ {_TAG} )
          | (?P<line> -- [^\n\r]*+ )
          | (?P<block> /\* )
          | \Z
        )
        """,
        re.VERBOSE | re.DOTALL,
    )


# Redshift takes backslashes for escapes in every string, which only its users document:
# https://github.com/apache/datafusion-sqlparser-rs/pull/1801, https://github.com/jOOQ/jOOQ/issues/10628.
# A statement that was written for standard SQL, and fails there, is in the history all the same.
_REDSHIFT, _STANDARD = _reading(_BACKSLASHES), _reading(_NO_BACKSLASHES)
_COMMENT_EDGE = re.compile(r"/\*|\*/")


class _Span(NamedTuple):
    start: int
    end: int
    shown: str


def hide_literals(sql: str) -> str:
    """SQL with `?` for each string and number, and without what its comments say.

    Names, quoted ones too, placeholders and layout stay. What only one way of reading backslashes takes for a
    literal is hidden, so that after an escaped quote more may vanish than literals.
    """
    parts: list[str] = []
    done = 0
    for start, end, shown in _spans(sql):
        parts += sql[done:start], shown
        done = end
    return "".join([*parts, sql[done:]])


def literal_words(sql: str) -> set[str]:
    """The words of the literals of a text of SQL, in lower case."""
    hidden = (sql[span.start : span.end] for span in _spans(sql) if span.shown == HIDDEN)
    return {word.casefold() for literal in hidden for word in re.findall(r"\w+", literal)}


def _spans(sql: str) -> Iterator[_Span]:
    """What is not shown as it is, in order, and the quoted names."""
    if "\\'" not in sql:
        return _read(_REDSHIFT, sql)
    return _united(heapq.merge(_read(_REDSHIFT, sql), _read(_STANDARD, sql)))


def _read(reading: re.Pattern[str], sql: str) -> Iterator[_Span]:
    end = 0
    while (token := reading.match(sql, end)) and (kind := token.lastgroup):
        start, end = token.span(kind)
        shown = HIDDEN
        if kind == "name":
            shown = token[kind]
        elif kind == "tag":
            closing = sql.find(token[kind], end)
            end = len(sql) if closing < 0 else closing + end - start
        elif kind == "line":
            shown = f"-- {HIDDEN}"
        elif kind == "block":
            shown, end = f"/* {HIDDEN} */", _comment_end(sql, end)
        yield _Span(start, end, shown)


def _comment_end(sql: str, inside: int) -> int:
    depth = 1
    for edge in _COMMENT_EDGE.finditer(sql, inside):
        depth += 1 if edge[0] == "/*" else -1
        if depth == 0:
            return edge.end()
    return len(sql)


def _united(spans: Iterable[_Span]) -> Iterator[_Span]:
    """Spans in order, without overlaps: where two differ, all of both is hidden."""
    last: _Span | None = None
    for span in spans:
        if last and span.start < last.end:
            if span != last:
                last = _Span(last.start, max(last.end, span.end), HIDDEN)
        else:
            if last:
                yield last
            last = span
    if last:
        yield last


# A number, or a word that may contain one.
_WORD = re.compile(r"\d\w*+(?:\.\w++)*|\w++")
# Not an apostrophe, as in "user's".
_QUOTE = r"""(?:(?<![\w?])(?:[BbEeNnXx]|[Uu]&)?['"]|['"](?![\w?]))"""
_QUOTED = re.compile(
    rf"""
    \b (?: relation | table | view | column | schema | database | user | group | role | function | procedure
      | cursor | constraint ) [ ] (?P<quote>['"]) [\w.$?]++ (?P=quote) (?!\w)
    | (?P<value> {_QUOTE} )
    """,
    re.VERBOSE | re.IGNORECASE,
)
_QUOTES = re.compile(_QUOTE)
# Redshift shows there, without quotes, the value that it was at.
_CONTEXT = re.compile(r"(\bcontext:\s*+)(?:.*\S(?=\s++query:)|.++)", re.DOTALL)


def hide_values(message: str, words: Collection[str]) -> str:
    """An error message of Redshift with `?` for numbers and for what it quotes, but not for a quoted name.

    Values may contain quotes, and so does the piece of the statement that Redshift shows after `in context`:
    therefore all from the first to the last quote is hidden.

    Args:
        words: words to hide wherever they stand, in lower case, such as `literal_words` of the statement.
    """

    def hide(word: re.Match[str]) -> str:
        return HIDDEN if word[0][0].isdecimal() or word[0].casefold() in words else word[0]

    return _CONTEXT.sub(rf"\1{HIDDEN}", _without_quotations(_WORD.sub(hide, message)))


def _without_quotations(message: str) -> str:
    first = next((m.start() for m in _QUOTED.finditer(message) if m["value"]), None)
    if first is None:
        return message
    quotes = [m.end() for m in _QUOTES.finditer(message, first)]
    # An odd one: the message was cut off within a value, or a value has one of its own.
    end = quotes[-1] if len(quotes) % 2 == 0 else len(message)
    return message[:first] + HIDDEN + message[end:]
