"""Checks statements for SQL that PostgreSQL accepts and Redshift refuses."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import sqlglot
from sqlglot import Token, TokenType, exp
from sqlglot.errors import SqlglotError

from qupersync_assets.sandbox.rules import dialect
from qupersync_assets.sandbox.rules.dialect import Mode
from qupersync_assets.sandbox.rules.texts import tokens, word_list


class Refusal(NamedTuple):
    """The error that the client receives."""

    sqlstate: str
    message: str


@dataclass
class State:
    """The open transaction and cursor of a session."""

    in_transaction: bool = False
    cursor_open: bool = False

    def track(self, statement: str) -> None:
        """Update the state for a statement that is sent to the server; a failed one leads to a rollback."""
        match word_list(statement)[:1]:
            case ["begin" | "start"]:
                self.in_transaction = True
            case ["commit" | "end" | "rollback" | "abort"]:
                self.in_transaction = self.cursor_open = False
            case ["declare"]:
                self.cursor_open = self.in_transaction
            case ["close"]:
                self.cursor_open = False


_NOT_ON_TABLES = Refusal(
    "0A000", "Specified types or functions (one per INFO message) not supported on Redshift tables."
)
_FETCH_LIMIT = 1000
_PARSED = ("select", "with", "(", "insert", "update", "delete", "create", "merge")
_QUERIES = ("select", "with", "(")

_SYNTAX: dict[type[exp.Expr], str] = {
    exp.OnConflict: "ON CONFLICT",
    exp.Returning: "RETURNING",
    exp.Lateral: "LATERAL",
    exp.Filter: "FILTER",
    exp.Values: "VALUES",
    exp.Array: "ARRAY",
    exp.Bracket: "[",
    exp.TableSample: "TABLESAMPLE",
}
_OPERATORS = (
    exp.JSONExtract,
    exp.JSONExtractScalar,
    exp.JSONBExtract,
    exp.JSONBExtractScalar,
    exp.JSONBContains,
    exp.ArrayContainsAll,
    exp.ArrayContainedBy,
)


def refusal(statement: str, mode: Mode, state: State, lists_absent: bool = False) -> Refusal | None:
    """Return the error with which Redshift refuses a statement, None if it is sent to the server.

    The server itself refuses unknown columns: its tables have the documented columns only.

    Args:
        statement: one statement.
        mode: the kind of Redshift.
        state: the state of the session.
        lists_absent: see dialect.availability.
    """
    try:
        words = word_list(statement)
    except SqlglotError:
        return Refusal("42601", "syntax error: unterminated string or identifier")
    if not words:
        return None
    if words[0] not in dialect.COMMANDS and words[0] != "(":
        return _syntax(words[0])
    match words[0]:
        case "declare":
            return _declare(statement, mode, state, lists_absent)
        case "fetch":
            return _fetch(words, mode)
        case "set" | "reset" | "show":
            return _setting(words)
        case "rollback" if "to" in words:
            return Refusal("0A000", "savepoints are not supported")
        case "explain":
            return refusal(statement[tokens(statement)[0].end + 1 :], mode, state, lists_absent)
        case word if word in _PARSED:
            return _check_statement(statement, mode, lists_absent)
    return None


def _declare(statement: str, mode: Mode, state: State, lists_absent: bool) -> Refusal | None:
    parts = tokens(statement)
    words = [part.text.lower() for part in parts]
    if words[2:4] != ["cursor", "for"]:
        return _syntax(words[2] if len(words) > 2 else "declare")
    if not state.in_transaction:
        return Refusal("25P01", "DECLARE CURSOR may only be used in transaction blocks")
    if state.cursor_open:
        # SQLSTATE invalid_cursor_state: the cursor's name is valid.
        return Refusal("24000", "only one cursor can be open in a session at a time")
    if any(part.token_type in (TokenType.PARAMETER, TokenType.PLACEHOLDER) for part in parts):
        return Refusal("0A000", "DECLARE CURSOR does not take bound parameters")
    if words[4:5] and words[4] not in _QUERIES:
        return _syntax(words[4])
    return _check_statement(statement[parts[3].end + 1 :], mode, lists_absent)


def _fetch(words: list[str], mode: Mode) -> Refusal | None:
    # https://docs.aws.amazon.com/redshift/latest/dg/fetch.html
    match words[1:-2], words[-2:-1]:
        case (([] | ["next"] | ["forward"]), ["from"]):
            return None
        case ((["all"] | ["forward", "all"]), ["from"]):
            if mode == "single-node":
                return Refusal("0A000", "FETCH ALL is not supported for a single node configuration")
            return None
        case ["forward", count], ["from"] if count.isdecimal():
            if mode == "single-node" and int(count) > _FETCH_LIMIT:
                return Refusal(
                    "0A000",
                    f"Fetch size {count} exceeds the limit of {_FETCH_LIMIT} for a single node "
                    "configuration. Reduce the client fetch/cache size or upgrade to a multi node "
                    "installation.",
                )
            return None
    return _syntax(words[1] if len(words) > 1 else "fetch")


def _setting(words: list[str]) -> Refusal | None:
    names = [word for word in words[1:] if word not in ("session", "local")]
    name = names[0] if names else ""
    if words[0] in ("reset", "show") and name == "all":
        return None
    if name in dialect.POSTGRES_SETTINGS or name in dialect.REDSHIFT_SETTINGS:
        return None
    return Refusal("42704", f'unrecognized configuration parameter "{name}"')


@lru_cache(maxsize=1024)
def _check_statement(statement: str, mode: Mode, lists_absent: bool) -> Refusal | None:
    try:
        parsed = sqlglot.parse_one(statement, read="redshift")
    except SqlglotError as error:
        return Refusal("42601", f"syntax error: {str(error).splitlines()[0]}")
    except RecursionError:
        return Refusal("54001", "statement too complex")
    relations = _relations(parsed)
    is_query = word_list(statement)[0] in _QUERIES
    called = _called_functions(tokens(statement), parsed) if is_query else set()
    checks: Iterator[Refusal | None] = iter(
        (
            *(_check_node(node, is_query) for node in parsed.walk()),
            *(_check_relation(*names, mode, lists_absent) for names in relations),
            *(Refusal("42883", f"function {name}() does not exist") for name in sorted(called - dialect.FUNCTIONS)),
            _check_privilege_arguments(tokens(statement)),
            _check_nodes([name for _, name in relations], called),
        )
    )
    return next((found for found in checks if found), None)


def _check_node(node: exp.Expr, is_query: bool) -> Refusal | None:
    word = _SYNTAX.get(type(node))
    if word and (is_query or not isinstance(node, exp.Values)):
        return _syntax(word)
    if isinstance(node, exp.Distinct) and node.args.get("on"):
        return _syntax("ON")
    if isinstance(node, exp.LimitOptions) and node.args.get("with_ties"):
        return _syntax("WITH TIES")
    if isinstance(node, _OPERATORS):
        return Refusal("42883", "operator does not exist: Redshift has no operators for JSON or arrays")
    if isinstance(node, exp.DataType):
        # sqlglot does not know the single-byte type "char", which is written in quotes.
        name = str(node.args.get("kind") or getattr(node.this, "value", node.this)).strip('"').lower()
        if name not in dialect.TYPES:
            return Refusal("42704", f'type "{name}" does not exist')
    if isinstance(node, exp.Column) and node.name.lower() in dialect.HIDDEN_COLUMNS:
        return Refusal("42703", f'column "{node.name.lower()}" does not exist')
    return None


def _relations(parsed: exp.Expr) -> list[tuple[str, str]]:
    """Return schema ('' for none) and name of each relation that a statement reads, without its CTEs."""
    tables = [table for table in parsed.find_all(exp.Table) if isinstance(table.this, exp.Identifier)]
    return [
        (table.db.lower(), table.name.lower())
        for table in tables
        if table.db or table.name.lower() not in _visible_ctes(table)
    ]


def _visible_ctes(table: exp.Table) -> set[str]:
    """Return the CTEs that a table name may refer to: those of the enclosing queries.

    Without RECURSIVE, a CTE refers only to the CTEs before it.
    """
    visible: set[str] = set()
    node: exp.Expr = table
    while (parent := node.parent) is not None:
        expressions: list[exp.CTE] = []
        if isinstance(parent, exp.With):
            expressions = parent.expressions if parent.recursive else parent.expressions[: node.index]
        elif (clause := parent.args.get("with_")) is not None and clause is not node:
            expressions = clause.expressions
        visible.update(cte.alias.lower() for cte in expressions)
        node = parent
    return visible


def _check_relation(schema: str, name: str, mode: Mode, lists_absent: bool) -> Refusal | None:
    is_system = name.startswith(dialect.SYSTEM_PREFIXES)
    if schema not in ("", "pg_catalog") and (is_system or schema == "information_schema"):
        return Refusal("42P01", f'relation "{schema}.{name}" does not exist')
    if not is_system:
        return None
    match dialect.availability(name, mode, lists_absent):
        case "absent":
            return Refusal("42P01", f'relation "{name}" does not exist')
        case "denied":
            return Refusal("42501", f"permission denied for relation {name}")
    return None


def _called_functions(parts: Sequence[Token], parsed: exp.Expr) -> set[str]:
    """Return the names of the functions that a query calls, with and without parentheses."""
    aliases = {
        alias.name.lower()
        for alias in parsed.find_all(exp.TableAlias)
        if alias.args.get("columns") or isinstance(alias.parent, exp.CTE)
    }
    found = set()
    for part, following in zip(parts, [*parts[1:], None], strict=True):
        name = part.text.lower()
        is_word = part.token_type is not TokenType.STRING and name.replace("_", "a").isalnum()
        if following is not None and following.token_type is TokenType.L_PAREN:
            if is_word and not name[0].isdigit() and name not in dialect.KEYWORDS | aliases:
                found.add(name)
        elif part.token_type is not TokenType.IDENTIFIER and name in dialect.LEADER_KEYWORDS:
            found.add(name)
    return found


def _check_privilege_arguments(parts: Sequence[Token]) -> Refusal | None:
    """Refuse has_table_privilege('name', ...) for a system table or view.

    https://docs.aws.amazon.com/redshift/latest/dg/r_HAS_TABLE_PRIVILEGE.html
    """
    for index, part in enumerate(parts):
        if part.text.lower() == "has_table_privilege":
            for argument in parts[index + 2 : index + 5]:
                name = argument.text.lower().removeprefix("pg_catalog.")
                if argument.token_type is TokenType.STRING and name.startswith(dialect.VIEW_PREFIXES):
                    return _NOT_ON_TABLES
    return None


def _check_nodes(relations: list[str], called: set[str]) -> Refusal | None:
    nodes = {dialect.node(name) for name in relations}
    if nodes - {"leader"} and called & dialect.LEADER_ONLY:
        return _NOT_ON_TABLES
    # Redshift allows catalogs whose column types all exist on compute nodes; the sandbox allows none.
    if "compute" in nodes and any(name.startswith("pg_") for name in relations):
        return _NOT_ON_TABLES
    if nodes == {"leader"} and called & dialect.COMPUTE_ONLY:
        return _NOT_ON_TABLES
    return None


def _syntax(near: str) -> Refusal:
    return Refusal("42601", f'syntax error at or near "{near}"')
