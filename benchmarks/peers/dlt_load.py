"""Merges a table into another database with dlt; runs in the environment of dlt.txt.

Its argument is a JSON object: `source` and `target` (URLs), `relation`, `schema`, `folder` (dlt's files), and
the settings `backend`, `chunk`, `format`, `strategy`, null for dlt's default. Prints JSON with `seconds`,
without the imports.
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
    setting = {name: options[name] for name in ("backend", "chunk") if options[name]}
    setting = {"chunk_size" if name == "chunk" else name: value for name, value in setting.items()}
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
    print(json.dumps({"seconds": time.monotonic() - began}))


if __name__ == "__main__":
    main()
