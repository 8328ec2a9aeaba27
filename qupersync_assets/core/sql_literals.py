"""Hides data in texts: literals in SQL, values in error messages.

The functions accept any text, truncated anywhere, never raise, and take linear time. No library does that:
sqlglot's tokenizer raises on a truncated string, Pygments does not support backslashes in strings and shows
the text after them, and both are twenty times slower.
"""

import heapq
import re
from collections.abc import Collection, Iterable, Iterator
from functools import cache
from typing import NamedTuple

from qupersync_assets.core.comment_tags import shown_tags

HIDDEN = "?"
_TAG = r"(?:[^\W\d]\w*+)?\$"  # of a dollar quote, without its first $
_BACKSLASHES = r"'(?:[^'\\]++|''|\\.?)*'?"
_NO_BACKSLASHES = r"'(?:[^']++|'')*'?"
_PREFIX = r"(?: [BbXx] | (?<!\\) [Nn] | [Uu]& )"


@cache
def _token_pattern(string: str, visible_backslash: str, line: str) -> re.Pattern[str]:
    """Build a pattern of visible text and the hidden token after it.

    Args:
        string: the pattern of an ordinary string.
        visible_backslash: the pattern of a backslash outside tokens.
        line: the pattern of the text of a line comment.

    An unterminated token extends to the end of the text. One of the alternatives after the repetition always
    matches, at least the end of the text: without backtracking the time is linear. Only single characters are
    repeated possessively: before Python 3.11.5 possessive groups are wrong
    (https://github.com/python/cpython/issues/106052).
    """
    return re.compile(
        rf"""
        (?: (?! {_PREFIX}' | [Ee]' ) [^\W\d]\w*+ (?: \$ (?! {_TAG} ) \w*+ )* [^\w'"$./\\-]*+
          | [^\w'"$./\\-]++
          | {visible_backslash}
          | \. (?! \d )
          | \$ (?! {_TAG} ) \d*+  # also a placeholder
          | / (?! \* )
          | - (?! - )
        )*
        (?: (?P<literal> {_PREFIX}? {string}
              | [Ee] {_BACKSLASHES}
              | \.? \d\w*+ (?: \.\w++ )* (?: (?<= [Ee] ) [+-] \d\w*+ )*
              | " (?: [^"]++ | "" )* \Z
            )
          | (?P<name> " (?: [^"]++ | "" )* " )
          | (?P<tag> \$ {_TAG} )
          | (?P<line> -- {line} )
          | (?P<block> /\* )
          | \Z
        )
        """,
        re.VERBOSE | re.DOTALL,
    )


# Redshift treats backslashes as escapes in all strings, which only its users document:
# https://github.com/apache/datafusion-sqlparser-rs/pull/1801, https://github.com/jOOQ/jOOQ/issues/10628.
# The history also has failed statements, which may be written for standard SQL.
def _readings(sql: str) -> Iterator[re.Pattern[str]]:
    """Yield the patterns of all interpretations of the backslashes in a text."""
    strings = [_BACKSLASHES, *([_NO_BACKSLASHES] if "\\'" in sql else [])]
    # Redshift spells line breaks and tabs as a backslash and a letter. A text with a real line break is not from
    # Redshift's log: there a comment may contain a backslash.
    escaped_end = r"(?: [^\n\r\\]++ | \\ (?! [nr] ) )*"
    to_line_end = r"[^\n\r]*+" if "\n" in sql else escaped_end
    for string in strings:
        yield _token_pattern(string, r"\\", to_line_end)
        if _ESCAPED_SPACE.search(sql):
            yield _token_pattern(string, r"\\ [nrt]?+", escaped_end)


_ESCAPED_SPACE = re.compile(r"\\[nrt]")
_COMMENT_EDGE = re.compile(r"/\*|\*/")


class _Span(NamedTuple):
    start: int
    end: int
    shown: str


def hide_literals(sql: str) -> str:
    """Replace each string, number and comment text in SQL by `?`.

    Names, also quoted ones, placeholders, layout and the tags of tools in comments are kept. Outside strings a
    backslash and n, r or t are white space, as Redshift spells it, or a name after a backslash. Text that is a
    literal under only one interpretation of backslashes is hidden: after an escaped quote more than the literals
    may be hidden.
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
    spellings = (text for literal in hidden for text in (literal, _ESCAPED_SPACE.sub(" ", literal)))
    return {word.casefold() for text in spellings for word in re.findall(r"\w+", text)}


def _spans(sql: str) -> Iterator[_Span]:
    """Yield hidden tokens and quoted names, in order."""
    readings = [_tokens(pattern, sql) for pattern in _readings(sql)]
    return readings[0] if len(readings) == 1 else _merge_spans(heapq.merge(*readings))


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
            shown = f"--{shown_tags(token[kind][2:]) or f' {HIDDEN}'}"
        elif kind == "block":
            end = _comment_end(sql, end)
            shown = f"/*{shown_tags(sql[start + 2 : end - 2]) or f' {HIDDEN} '}*/"
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


# A number, or a word that may contain one; an escaped line break may precede both.
_WORD = re.compile(r"(?:(?<=\\)(?P<escape>[nrt]))?(?P<word>\d\w*+(?:\.\w++)*|\w++)")
# Not an apostrophe, as in "user's".
_QUOTE = r"""(?:(?:(?<![\w?])|(?<=\\[nrt]))(?:[BbEeXx]|(?<!\\)[Nn]|[Uu]&)?['"]|['"](?![\w?]))"""
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

    def hide(found: re.Match[str]) -> str:
        word, escape = found["word"], found["escape"] or ""
        if f"{escape}{word}".casefold() in words:
            return HIDDEN
        return f"{escape}{HIDDEN}" if word[0].isdecimal() or word.casefold() in words else found[0]

    text = _WORD.sub(hide, message)
    first = next((m.start() for m in _QUOTED.finditer(text) if m["value"]), None)
    if first is not None:
        quotes = [m.end() for m in _QUOTES.finditer(text, first)]
        # An odd number of quotes: the message is truncated within a value, or a value contains a quote.
        end = quotes[-1] if len(quotes) % 2 == 0 else len(text)
        text = text[:first] + HIDDEN + text[end:]
    return _CONTEXT.sub(rf"\1{HIDDEN}", text)
