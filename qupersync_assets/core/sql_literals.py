"""Hides data in texts: literals in SQL, values in error messages.

The functions accept any text, truncated anywhere, never raise, and take linear time. No library does that:
sqlglot's tokenizer raises on a truncated string, Pygments does not support backslashes in strings and shows
the text after them, and both are twenty times slower.
"""

import heapq
import re
from collections.abc import Collection, Iterable, Iterator
from typing import NamedTuple

HIDDEN = "?"
_TAG = r"(?:[^\W\d]\w*+)?\$"  # of a dollar quote, without its first $
_BACKSLASHES = r"'(?:[^'\\]++|''|\\.?)*'?"
_NO_BACKSLASHES = r"'(?:[^']++|'')*'?"


def _token_pattern(string: str) -> re.Pattern[str]:
    """Build a pattern of visible text and the hidden token after it, from that of an ordinary string.

    An unterminated token extends to the end of the text. One of the alternatives after the repetition always
    matches, at least the end of the text: without backtracking the time is linear. Only single characters are
    repeated possessively: before Python 3.11.5 possessive groups are wrong
    (https://github.com/python/cpython/issues/106052).
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


# Redshift treats backslashes as escapes in all strings, which only its users document:
# https://github.com/apache/datafusion-sqlparser-rs/pull/1801, https://github.com/jOOQ/jOOQ/issues/10628.
# The history also has failed statements, which may be written for standard SQL.
_REDSHIFT, _STANDARD = _token_pattern(_BACKSLASHES), _token_pattern(_NO_BACKSLASHES)
_COMMENT_EDGE = re.compile(r"/\*|\*/")


class _Span(NamedTuple):
    start: int
    end: int
    shown: str


def hide_literals(sql: str) -> str:
    """Replace each string, number and comment text in SQL by `?`.

    Names, also quoted ones, placeholders and layout are kept. Text that is a literal under only one
    interpretation of backslashes is hidden: after an escaped quote more than the literals may be hidden.
    """
    parts: list[str] = []
    done = 0
    for start, end, shown in _spans(sql):
        parts += sql[done:start], shown
        done = end
    return "".join([*parts, sql[done:]])


def literal_words(sql: str) -> set[str]:
    """Return the words of the literals in SQL, in lower case."""
    hidden = (sql[span.start : span.end] for span in _spans(sql) if span.shown == HIDDEN)
    return {word.casefold() for literal in hidden for word in re.findall(r"\w+", literal)}


def _spans(sql: str) -> Iterator[_Span]:
    """Yield hidden tokens and quoted names, in order."""
    if "\\'" not in sql:
        return _tokens(_REDSHIFT, sql)
    return _merge_spans(heapq.merge(_tokens(_REDSHIFT, sql), _tokens(_STANDARD, sql)))


def _tokens(pattern: re.Pattern[str], sql: str) -> Iterator[_Span]:
    end = 0
    while (token := pattern.match(sql, end)) and (kind := token.lastgroup):
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


def _merge_spans(spans: Iterable[_Span]) -> Iterator[_Span]:
    """Merge overlapping spans; if two differ, both are hidden completely."""
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
# After `context:` Redshift shows the value that it processed, without quotes.
_CONTEXT = re.compile(r"(\bcontext:\s*+)(?:.*\S(?=\s++query:)|.++)", re.DOTALL)


def hide_values(message: str, words: Collection[str]) -> str:
    """Replace numbers and quoted values in an error message of Redshift by `?`, but not quoted names.

    Values may contain quotes, and so may the part of the statement that Redshift shows after `in context`:
    all text from the first to the last quote is hidden. Further `words` are hidden, too: they are in lower case, as
    those that `literal_words` finds in the statement.
    """

    def hide(word: re.Match[str]) -> str:
        return HIDDEN if word[0][0].isdecimal() or word[0].casefold() in words else word[0]

    text = _WORD.sub(hide, message)
    first = next((m.start() for m in _QUOTED.finditer(text) if m["value"]), None)
    if first is not None:
        quotes = [m.end() for m in _QUOTES.finditer(text, first)]
        # An odd number of quotes: the message is truncated within a value, or a value contains a quote.
        end = quotes[-1] if len(quotes) % 2 == 0 else len(text)
        text = text[:first] + HIDDEN + text[end:]
    return _CONTEXT.sub(rf"\1{HIDDEN}", text)
