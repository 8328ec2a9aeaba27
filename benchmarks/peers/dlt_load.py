"""Merges a table into another database with dlt; runs in the environment of dlt.txt.

Its argument is a JSON object: `source` and `target` (URLs), `relation`, `schema`, `folder` (dlt's files),
`cursor` (column to read new rows by; null: all rows), and the settings `backend`, `format`, `strategy`, null for dlt's
default. `ids` adds the columns of the default backend, whose load of new rows follows. Prints JSON with
`inner_seconds`, without the imports.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any


def main() -> None:
    """Load the table once."""
    options: dict[str, Any] = json.loads(sys.argv[1])
    import dlt
    from dlt.sources.sql_database import sql_table

    began = time.monotonic()
    setting: dict[str, Any] = {"backend": options["backend"]} if options["backend"] else {}
    for column in ("id", "load_id") if options["ids"] else ():
        dlt.config[f"normalize.parquet_normalizer.add_dlt_{column}"] = True
    if options["cursor"]:
        setting["incremental"] = dlt.sources.incremental(options["cursor"])
    schema, table = options["relation"].split(".")
    resource = sql_table(credentials=options["source"], schema=schema, table=table, reflection_level="full", **setting)
    strategy = options["strategy"]
    resource.apply_hints(
        primary_key="query_id",
        write_disposition={"disposition": "merge", "strategy": strategy} if strategy else "merge",
    )
    pipeline = dlt.pipeline(
        "bench",
        pipelines_dir=options["folder"],
        destination=dlt.destinations.postgres(options["target"]),
        dataset_name=options["schema"],
    )
    form = {"loader_file_format": options["format"]} if options["format"] else {}
    pipeline.run(resource, **form).raise_on_failed_jobs()
    print(json.dumps({"inner_seconds": time.monotonic() - began}))


if __name__ == "__main__":
    main()
