"""Expands variables and macros in statements of dashboards, as Grafana does before it sends them to PostgreSQL.

https://grafana.com/docs/grafana/latest/datasources/postgres/#macros
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from tools.grafana.panels import ALL

_VARIABLE = r"\$\{(\w+):sqlstring\}"
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def expand(
    sql: str, variables: Mapping[str, str | Sequence[str]], start: datetime, end: datetime, interval: str = "1h"
) -> str:
    """Return a statement with literals; a variable that is missing has all its values chosen.

    Raises:
        ValueError: a macro or a form of a variable is not known.
    """
    times = f"'{start:%Y-%m-%dT%H:%M:%SZ}'", f"'{end:%Y-%m-%dT%H:%M:%SZ}'"
    sql = sql.replace("$__interval", interval).replace("$__timeFrom()", times[0]).replace("$__timeTo()", times[1])
    sql = re.sub(r"\$__timeFilter\(([^)]+)\)", rf"\1 BETWEEN {times[0]} AND {times[1]}", sql)
    sql = re.sub(r"\$__timeGroup\(([^,]+), '?(\d+)([smhd])'?\)", _group, sql)
    if unknown := re.findall(r"\$__\w+|(?!\$\{\w+:sqlstring\})\$\{[^}]*\}", sql):
        raise ValueError("unknown in a statement: " + ", ".join(unknown))
    return re.sub(_VARIABLE, lambda found: _literal(variables.get(found[1])), sql)


def _literal(value: str | Sequence[str] | None) -> str:
    if value is None:
        return ALL
    values = [value] if isinstance(value, str) else value
    return ",".join("'" + each.replace("'", "''") + "'" for each in values)


def _group(found: re.Match[str]) -> str:
    seconds = int(found[2]) * _SECONDS[found[3]]
    return f"floor(extract(epoch from {found[1]})/{seconds})*{seconds}"


def statements(board: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the name and the statement of each variable and each panel of a dashboard."""
    for variable in board["templating"]["list"]:
        if variable["type"] == "query":
            yield f"{board['title']}: variable {variable['name']}", variable["query"]
    for panel in board["panels"]:
        for target in panel.get("targets", []):
            yield f"{board['title']}: {panel['title']}", target["rawSql"]
