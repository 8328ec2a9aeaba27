"""Writes the dashboards for Grafana on PostgreSQL; `make docs` runs it.

Grafana's Foundation SDK builds them: https://grafana.github.io/grafana-foundation-sdk/
"""

from __future__ import annotations

import json
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from tools.grafana import health_board, statement_board, table_board

FOLDER = Path(__file__).parents[2] / "deploy" / "grafana"
_BOARDS = {
    "redshift-health.json": health_board.build,
    "redshift-table.json": table_board.build,
    "redshift-statement.json": statement_board.build,
}


def boards() -> dict[Path, str]:
    """Return the text of each dashboard, by file."""
    return {
        FOLDER / name: json.dumps(build(), cls=JSONEncoder, indent=1, ensure_ascii=False) + "\n"
        for name, build in _BOARDS.items()
    }
