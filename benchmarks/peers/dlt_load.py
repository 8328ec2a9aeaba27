"""dlt's merge of one table into another database; runs in the environment of dlt.txt, alone.

Its argument is a JSON object: `source` and `target` (URLs), `relation`, `schema`, `folder` of dlt's own
files, and the setting: `backend`, `chunk`, `format`, `strategy`, each of them null for dlt's default.
Prints JSON with `seconds`, without the imports.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any


def main() -> None:
    """Load once."""
    asked: dict[str, Any] = json.loads(sys.argv[1])
    import dlt
    from dlt.sources.sql_database import sql_table

    began = time.monotonic()
    setting = {name: asked[name] for name in ("backend", "chunk") if asked[name]}
    setting = {"chunk_size" if name == "chunk" else name: value for name, value in setting.items()}
    schema, table = asked["relation"].split(".")
    resource = sql_table(
        credentials=asked["source"], schema=schema, table=table, reflection_level="full", **setting
    )
    strategy = asked["strategy"]
    resource.apply_hints(
        primary_key="query_id",
        write_disposition={"disposition": "merge", "strategy": strategy} if strategy else "merge",
    )
    pipeline = dlt.pipeline(
        "bench",
        pipelines_dir=asked["folder"],
        destination=dlt.destinations.postgres(asked["target"]),
        dataset_name=asked["schema"],
    )
    form = {"loader_file_format": asked["format"]} if asked["format"] else {}
    pipeline.run(resource, **form).raise_on_failed_jobs()
    print(json.dumps({"seconds": time.monotonic() - began}))


if __name__ == "__main__":
    main()
