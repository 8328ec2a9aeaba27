"""Measures lower bounds: `python -m benchmarks.floors read SIZE` or `copy`. Prints JSON with `seconds`.

`read` fetches all pages with the driver and discards them; `copy` pipes COPY into COPY, without the gateway,
into a table with a key.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from typing import Any

from benchmarks.world import SOURCE, connect_as_peer

TABLE = "floor.queries"


def read(size: int) -> int:
    """Read all rows in pages of `size`; return their number."""
    connection = connect_as_peer()
    cursor, rows = connection.cursor(), 0
    cursor.execute(f"DECLARE pages CURSOR FOR SELECT * FROM {SOURCE}")
    while True:
        cursor.execute(f"FETCH FORWARD {size} FROM pages")
        page = cursor.fetchall()
        rows += len(page)
        if not page:
            return rows


def copy() -> int:
    """Copy the source into the table; return the number of rows."""
    import psycopg2

    reading, writing = os.pipe()
    source: Any = psycopg2.connect(os.environ["SOURCE_DSN"])
    target: Any = psycopg2.connect(os.environ["TARGET_DSN"])

    def send() -> None:
        with os.fdopen(writing, "wb") as pipe:
            source.cursor().copy_expert(f"COPY (SELECT * FROM {SOURCE}) TO STDOUT (FORMAT binary)", pipe, 1 << 20)

    sender = threading.Thread(target=send)
    sender.start()
    cursor = target.cursor()
    with os.fdopen(reading, "rb") as pipe:
        cursor.copy_expert(f"COPY {TABLE} FROM STDIN (FORMAT binary)", pipe, 1 << 20)
    sender.join()
    target.commit()
    return int(cursor.rowcount)


def main() -> None:
    """Measure the duration without the imports."""
    import psycopg2  # noqa: F401
    import redshift_connector  # noqa: F401

    began = time.monotonic()
    rows = read(int(sys.argv[2])) if sys.argv[1] == "read" else copy()
    print(json.dumps({"seconds": time.monotonic() - began, "rows": rows}))


if __name__ == "__main__":
    main()
