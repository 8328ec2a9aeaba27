"""Hidden literals and values, visible text, arbitrary and long texts, and linear time."""

from __future__ import annotations

import time
from collections.abc import Callable
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qupersync_assets.core.sql_literals import hide_literals, hide_values, literal_words

WORD, NUMBER = "zqxmark", "907856"

# (a literal with the marks in it, what is shown instead), with strings of Redshift and of standard SQL.
BOTH = [
    *((f"'{WORD}'", "?"), (f"'it''s {WORD}'", "?"), (f"'\"{WORD}'", "?"), (f"'{WORD}\n-- /* $$'", "?")),
    *((f"'{WORD}\\\\'", "?"), (f"'\\{WORD}'", "?"), (f"E'it\\'s {WORD}'", "?"), (f"e'{WORD}\\\\\\''", "?")),
    *((f"U&'{WORD}\\0041'", "?"), (f"N'{WORD}'", "?"), (f"X'{NUMBER}'", "?"), (f"b'{NUMBER}'", "?")),
    *((f"DATE '{WORD}'", "DATE ?"), (f"'{WORD}'::date", "?::date"), (f"PASSWORD '{WORD}'", "PASSWORD ?")),
    *((f"$${WORD}'$$", "?"), (f"$a1$'{WORD}$$ $a $b$ $a1$", "?"), (f"AS $_$\n{WORD}\n$_$", "AS ?")),
    *((NUMBER, "?"), (f"-{NUMBER}", "-?"), (f"{NUMBER}.{NUMBER}", "?"), (f".{NUMBER}", "?")),
    *((f"{NUMBER}e-{NUMBER}", "?"), (f"1.5E+{NUMBER}", "?"), (f"0x{NUMBER}", "?"), (f"{NUMBER}::int8", "?::int8")),
    *((f"varchar({NUMBER})", "varchar(?)"), (f"a[{NUMBER}].b1", "a[?].b1"), (f"{NUMBER}_{NUMBER}", "?")),
    *((f"-- it's \"{WORD} $$ /*\n", "-- ?\n"), (f"--{WORD}\r", "-- ?\r")),
    *((f"/* {WORD}' */", "/* ? */"), (f"/*{WORD} /* ' */ {WORD}*/", "/* ? */"), ("/**/", "/* ? */")),
]
BACKSLASHES = [(f"'it\\'s {WORD}'", "?"), (f"'{WORD}\\\\\\'{WORD}'", "?"), (f"N'\\'{WORD}'", "?")]
STANDARD = [(f"'{WORD}\\'", "?"), ("'\\'", "?"), (f"'\\\\\\' = '{WORD}'", "? = ?")]
NAMES = [
    *(
        "orders",
        "t1",
        "col_2",
        "x",
        "e",
        "n",
        "b",
        "_a",
        "sys$x",
        "größe",
        "名前2",
        "a.b2.c",
        "#temp",
        "tru",
        "TRUE",
        "NULL",
    ),
    *('"2nd"', '"a ""quoted"" name"', '"Customer\'s 1 -- $$ /* name"', '""', 'u&"d\\0061t"', "::numeric", "INTERVAL"),
    *("$1", "$12", ":name", "?", "%s", "%(name)s", "@x", "a/b", "a-b", "a->b", "a.*", "x$1", "{d", "[b]", "#>", "`c`"),
]
GLUE = [" ", ", ", "\n", "\t(", ") ", " = ", " + ", ";\r\n", " || ", "[ ", "\xa0"]


def statements(*literals: list[tuple[str, str]]) -> st.SearchStrategy[tuple[str, str]]:
    """(a text of names and literals, the expected result)"""
    pieces = st.sampled_from([*((name, name) for name in NAMES), *(pair for some in literals for pair in some)])
    glue = st.sampled_from(GLUE).map(lambda text: (text, text))
    glued = st.lists(st.tuples(glue, pieces), max_size=12)
    return glued.map(lambda pairs: ("".join(g[0] + p[0] for g, p in pairs), "".join(g[1] + p[1] for g, p in pairs)))


ARBITRARY = st.lists(
    st.sampled_from([*"'\"\\$-/*.eENUu&0189aq_ \n\r?:`²٣\u0301\xa0\ud800", "''", '""', "\\'", "$$", "$a$"])
    | st.sampled_from(["--", "/*", "*/", "\\n", "\\r", "\\t", "/* {", '{"app": "dbt"}', '"a":'])
    | st.characters()
).map("".join)
LONG = settings(max_examples=100)


def marked(text: str) -> bool:
    return any(text[i : i + 4] in (*("zqxm", "qxma", "xmar", "mark"), "9078", "0785", "7856") for i in range(len(text)))


@LONG
@given(statements(BOTH))
def test_only_literals_are_hidden(statement: tuple[str, str]) -> None:
    text, expected = statement
    assert hide_literals(text) == expected


def escaped(text: str) -> str:
    """Return a text with its line breaks and tabs as Redshift spells them."""
    return text.replace("\n", "\\n").replace("\r", "\\r").replace("\t", "\\t")


# After an escaped quote more is hidden, if what precedes the string is a name or a line break and a prefix.
NO_ESCAPED_QUOTES = [(literal, shown) for literal, shown in BOTH if "\\'" not in literal]


@LONG
@given(statements(NO_ESCAPED_QUOTES))
def test_only_literals_are_hidden_with_line_breaks_as_redshift_spells_them(statement: tuple[str, str]) -> None:
    text, expected = statement
    assert hide_literals(escaped(text)) == escaped(expected)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (r"SELECT 1\n4111111111111111,\r\n\t4222 FROM t", r"SELECT ?\n?,\r\n\t? FROM t"),
        (r"-- comment\nWHERE x = 4111", r"-- ?\nWHERE x = ?"),
        (r"-- a\rb\n'c'\tE'\'d'\nN'e'", r"-- ?\rb\n?\t?"),
        (r"a\nE'\'b'c'", r"a\n?"),  # under the rules of standard SQL, c is a literal after the name nE
        # A text with a real line break is not from Redshift's log: the comment may contain the backslash.
        ("-- it\\n's\nWHERE a = 'b'", "?"),
    ],
)
def test_a_backslash_and_a_letter_are_white_space_and_a_name(text: str, shown: str) -> None:
    assert hide_literals(text) == shown


DBT = '{"app": "dbt", "dbt_version": "1.7.0", "profile_name": "shop", "target_name": "prod", "node_id": "model.a.b1"}'
LOOKER = """ Looker Query Context '{"user_id":133,"history_slug":"9dcf35a","instance_slug":"78fa"}'"""


@pytest.mark.parametrize("comment", [f"/* {DBT} */", f"/*{LOOKER} */", f"--{LOOKER}", f"-- {DBT}"])
@pytest.mark.parametrize("line_break", ["\n", "\\n"])
def test_tags_of_tools_are_kept(comment: str, line_break: str) -> None:
    assert hide_literals(f"{comment}{line_break}SELECT 1") == f"{comment}{line_break}SELECT ?"


@pytest.mark.parametrize(
    ("comment", "shown"),
    [
        ('/* {"app": "dbt", "customer": "O\'Brien"} */', '/* {"app": "dbt", ?} */'),
        (r'/* {\n  "app": "dbt",\n  "a": 1\n} */', r'/* {\n  "app": "dbt",\n  ?\n} */'),
        ('/* {"node_id": "a\'b"} */', "/* {?} */"),
        ('/* {"app": "dbt"} for Miller */', "/* ? */"),
        ('/* {"app": ["dbt"]} */', "/* ? */"),
        ('/* {"app": "dbt", ', "/* ? */"),
        ("-- WHERE id = 4111", "-- ?"),
    ],
)
def test_other_text_of_comments_is_hidden(comment: str, shown: str) -> None:
    assert hide_literals(comment) == shown


@pytest.mark.parametrize("strings", [BACKSLASHES, STANDARD])
def test_literals_are_hidden_under_both_meanings_of_backslashes(strings: list[tuple[str, str]]) -> None:
    @LONG
    @given(statements(BOTH, strings, strings), st.integers(min_value=0), st.randoms(use_true_random=False))
    def no_literal_is_shown(statement: tuple[str, str], cut: int, random: Random) -> None:
        # Each line break has either spelling.
        text = "".join(random.choice([character, escaped(character)]) for character in statement[0])
        assert not marked(hide_literals(text)) and not marked(hide_literals(text[: cut % (len(text) + 1)]))

    no_literal_is_shown()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (r"SELECT 'l\'auto', name FROM t", "SELECT ?"),
        (r"UNLOAD ('SELECT a WHERE b = \'c\' AND d = \'\'') TO 's3://e'", "UNLOAD (?) TO ?"),
        (r"a LIKE 'b' ESCAPE '\' AND c = 'd'", "a LIKE ? ESCAPE ?"),
        (r"a LIKE 'b' ESCAPE '\\' AND c = 'd'", "a LIKE ? ESCAPE ? AND c = ?"),
    ],
)
def test_ambiguous_quote_hides_the_literals_of_both_interpretations(text: str, shown: str) -> None:
    assert hide_literals(text) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        *(("a 'b", "a ?"), ("a 'b\\", "a ?"), ("a 'b''", "a ?"), ("a E'b\\'", "a ?"), ("a U&'", "a ?"), ("a '", "a ?")),
        *(('a "b', "a ?"), ('a "b""', "a ?"), ('a "', "a ?"), ("a $$ b", "a ?"), ("a $b$ c $b", "a ?")),
        *(("a /* b", "a /* ? */"), ("a /* /* b */ c", "a /* ? */"), ("a --b", "a -- ?"), ("a $b", "a $b")),
    ],
)
def test_unterminated_token_is_hidden_to_the_end(text: str, shown: str) -> None:
    assert hide_literals(text) == shown


def test_layout_is_kept() -> None:
    text = "SELECT  a1,\r\n\t'b'  -- c\n FROM\t\"D e\" WHERE f=1.5\n\n"
    assert hide_literals(text) == 'SELECT  a1,\r\n\t?  -- ?\n FROM\t"D e" WHERE f=?\n\n'


@LONG
@given(ARBITRARY)
def test_hiding_twice_changes_nothing(text: str) -> None:
    hidden = hide_literals(text)
    assert hide_literals(hidden) == hidden
    shown = hide_values(text, ())
    assert hide_values(shown, ()) == shown


@LONG
@given(ARBITRARY, ARBITRARY)
def test_words_of_literals_are_found(text: str, more: str) -> None:
    literal = more.replace("'", "").replace("\\", "") + f" {WORD}"
    assert WORD in literal_words(f"{hide_literals(text)}\n'{literal}'")


MESSAGES = [
    ("Query cancelled on user's request", "Query cancelled on user's request"),
    ("Division by zero", "Division by zero"),
    ("Value out of range for 4 bytes.", "Value out of range for ? bytes."),
    ('relation "tmp_1" does not exist', 'relation "tmp_1" does not exist'),
    ('column "a" of relation "b.c" does not exist', 'column "a" of relation "b.c" does not exist'),
    ("permission denied for relation orders_2", "permission denied for relation orders_2"),
    ('column "a b" does not exist', "column ? does not exist"),
    ('invalid input syntax for integer: "a"', "invalid input syntax for integer: ?"),
    ("Invalid digit, Value 'a', Pos 0, Type: Integer", "Invalid digit, Value ?, Pos ?, Type: Integer"),
    ("Invalid digit, Value 'O'Brien', Pos 0", "Invalid digit, Value ?, Pos ?"),
    ("Load into table 'a' failed. Check 'b' for details.", "Load into table 'a' failed. Check ? for details."),
    (
        'syntax error at or near "$" in context "search_path TO "a", $", at line 1',
        "syntax error at or near ?, at line ?",
    ),
    (
        "Invalid digit\n  code:      1207\n  context:   Ann query: Lee \n  query:     12\n  process: q_1 [pid=3]",
        "Invalid digit\n  code:      ?\n  context:   ? \n  query:     ?\n  process: q_1 [pid=?]",
    ),
    ("Overflow context: Ann", "Overflow context: ?"),
    ("10.5 is too much", "? is too much"),
]


@pytest.mark.parametrize(("message", "shown"), MESSAGES)
def test_messages_are_readable(message: str, shown: str) -> None:
    assert hide_values(message, ()) == shown


@LONG
@given(ARBITRARY, ARBITRARY)
def test_quoted_value_is_hidden_with_any_content(before: str, after: str) -> None:
    value = f"{before} {WORD} {NUMBER} {after}"
    for message in (f"Value '{value}', Pos 0", f'invalid input for "{value}"', f"context: {value}\n query: 1"):
        assert not marked(hide_values(message, ()))


@given(st.text(st.characters(exclude_characters="'\"")), st.integers(min_value=0))
def test_quoted_value_is_hidden_in_a_truncated_message(around: str, cut: int) -> None:
    message = f"table 'a' and 'b': value '{around}{WORD} {around}', Pos 0"
    assert not marked(hide_values(message[: cut % len(message)], ()))


def test_words_of_the_statement_are_hidden_in_its_message() -> None:
    statement = "CALL check_customer('Miller-Ñandú', $$O'Brien$$, 12) -- not found"
    words = literal_words(statement)
    assert words == {"miller", "ñandú", "o", "brien", "12"}
    assert hide_values("Customer MILLER-ñandú not found (O'Brien)", words) == "Customer ?-? not found (?'?)"


def test_words_after_an_escaped_line_break_are_hidden() -> None:
    words = literal_words(r"CALL a('Ann\nMiller')")
    assert words >= {"ann", "miller"}
    assert hide_values(r"No:\nMiller\n'Lee', id\n4111", words) == r"No:\?\n?, id\n?"
    assert hide_values(r"No:\tMILLER\n'Lee', id\n4111", {"miller"}) == r"No:\t?\n?, id\n?"


def seconds(function: Callable[[str], object], text: str) -> float:
    started = time.process_time()
    function(text)
    return time.process_time() - started


@pytest.mark.parametrize(
    "unit",
    [
        *("'", "''", "'x' ", "\\'", "'\\'' ", "E'", "e'\\", '"', '"a" ', "$", "$a", "$a$ ", "a$", "a$b$", "$1"),
        *("/*", "/**/", "*/", "-", "--\n", "- ", ".", "1.", "1 ", "1e-", ".1", "a ", "a", "é", "U&", "\n", "context: "),
        *(
            "context: query:",
            'relation "',
            "' query: ",
            'table "a" ',
            "\\n",
            "--\\n",
            "\\n1'\\'",
            '/* {"a":1,',
            "/* { ",
        ),
    ],
)
@pytest.mark.parametrize("function", [hide_literals, lambda text: hide_values(text, ())])
def test_time_is_linear(function: Callable[[str], object], unit: str) -> None:
    short, long = ((unit * length)[:length] for length in (1 << 13, 1 << 16))
    # Eight times the text; quadratic time would be 64 times as long. Very short times are not measurable.
    limit = 24 * max(min(seconds(function, short) for _ in range(3)), 0.001)
    # One of three attempts suffices: other processes can slow down the others.
    assert any(seconds(function, long) < limit for _ in range(3))


def test_text_of_megabytes_is_accepted() -> None:
    assert hide_literals("a 'b" + "'' " * (1 << 20) + "' c") == "a ? c"
