"""Reads, appends and numbers rows of the sandbox's views; a row is a dict."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

from psycopg2 import sql

Row = dict[str, Any]
_FIRST_IDS = {"query_id": 1_200_000, "xid": 9_300_000, "query": 410_000, "session": 1_073_742_000}


def last_ids(cursor: Any) -> dict[str, int]:
    """Return the highest ids in use: `query_id` (SYS views), `xid`, `query` (STL views), `session`."""
    cursor.execute(
        """
        SELECT (SELECT max(query_id) FROM redshift.sys_query_history),
            greatest((SELECT max(transaction_id) FROM redshift.sys_query_history),
                     (SELECT max(xid) FROM redshift.stl_vacuum)),
            (SELECT max(query) FROM redshift.stl_query),
            (SELECT max(session_id) FROM redshift.sys_connection_log)
        """
    )
    return {
        name: first if last is None else last
        for (name, first), last in zip(_FIRST_IDS.items(), cursor.fetchone(), strict=True)
    }


def fetch_dicts(cursor: Any) -> list[Row]:
    """Return the rows of the last statement as dicts, without the padding of character(n)."""
    names = [column.name for column in cursor.description]
    return [
        {name: value.rstrip() if isinstance(value, str) else value for name, value in zip(names, values, strict=True)}
        for values in cursor.fetchall()
    ]


def copy_rows(cursor: Any, rows_by_view: Mapping[str, Sequence[Row]]) -> None:
    """Append rows to the views; missing columns become NULL."""
    for view, rows in rows_by_view.items():
        columns = list(dict.fromkeys(name for row in rows for name in row))
        lines = ("\t".join(_field(row.get(column)) for column in columns) + "\n" for row in rows)
        statement = sql.SQL("COPY redshift.{} ({}) FROM STDIN").format(
            sql.Identifier(view), sql.SQL(", ").join(map(sql.Identifier, columns))
        )
        if rows:
            cursor.copy_expert(statement, io.StringIO("".join(lines)))


_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})


def _field(value: Any) -> str:
    return "\\N" if value is None else str(value).translate(_ESCAPES)
