"""The steps of the service that QuperSync replaces: `python -m benchmarks.seed ROWS`.

It reads pages by LIMIT and OFFSET, each with a new connection, and converts rows to dicts and dicts to
entities, field by field. A page of entities is one INSERT ... VALUES ... ON CONFLICT DO UPDATE. It reads the
first ROWS rows by their key, and prints JSON with `inner_seconds`; with `--serve`
for each line of its input.
"""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import asdict, make_dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from benchmarks.world import SOURCE, connect_as_peer
from qupersync_assets.sync_jobs.query_history import SPEC

PAGE = 1000

TABLE = sa.Table(
    "queries",
    sa.MetaData(schema="bench_seed"),
    *(sa.Column(c.name, c.type, primary_key=c.name == "query_id") for c in SPEC.columns),
)
_KINDS = {c.name: c.type.python_type for c in TABLE.c}
Entity = make_dataclass("Entity", [(name, Any) for name in _KINDS])


def extract(offset: int, rows: int) -> list[dict[str, Any]]:
    """Read one page, as dicts."""
    connection = connect_as_peer()
    cursor = connection.cursor()
    cursor.execute(f"SELECT * FROM {SOURCE} ORDER BY query_id LIMIT {rows} OFFSET {offset}")
    names = [column[0] for column in cursor.description]
    page = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
    connection.close()
    return page


def transform(page: list[dict[str, Any]]) -> list[Any]:
    """Convert dicts to entities of the right types."""
    entities = []
    for row in page:
        values = {}
        for name, kind in _KINDS.items():
            value = row[name]
            if value is not None and not isinstance(value, kind):
                value = datetime.fromisoformat(value) if kind is datetime else kind(value)
            values[name] = value
        entities.append(Entity(**values))
    return entities


def load(engine: sa.Engine, entities: list[Any]) -> None:
    """Upsert one page."""
    statement = insert(TABLE).values([asdict(entity) for entity in entities])
    changed = {c.name: statement.excluded[c.name] for c in TABLE.c if not c.primary_key}
    with engine.begin() as connection:
        connection.execute(statement.on_conflict_do_update(index_elements=["query_id"], set_=changed))


def main() -> None:
    """Load the rows once, or once for each line of the input."""
    url = os.environ["TARGET_URL"].replace("postgresql:", "postgresql+psycopg2:")
    engine = sa.create_engine(url, connect_args={"options": "-c timezone=UTC"})
    TABLE.metadata.create_all(engine)
    rows = int(sys.argv[1])
    for _ in sys.stdin if "--serve" in sys.argv else "1":
        began = time.monotonic()
        for offset in range(0, rows, PAGE):
            load(engine, transform(extract(offset, min(PAGE, rows - offset))))
        print(json.dumps({"inner_seconds": time.monotonic() - began}), flush=True)


if __name__ == "__main__":
    main()
