"""A receiver of OpenLineage events over HTTP, and the fields that an event must have."""

from __future__ import annotations

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from jsonschema import Draft202012Validator, FormatChecker

from qupersync_assets_tests.support.background_server import InBackground


def _object(*required: str, **properties: Any) -> dict[str, Any]:
    return {"type": "object", "required": list(required), "properties": properties}


_TEXT = {"type": "string", "minLength": 1}
_URI = {"type": "string", "pattern": "^https://"}
_TIME = {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d.*(Z|[+-]\d\d:\d\d)$"}
_FACETS = {
    "type": "object",
    "additionalProperties": _object("_producer", "_schemaURL", _producer=_URI, _schemaURL=_URI),
}
_DATASET = _object("namespace", "name", namespace=_TEXT, name=_TEXT, facets=_FACETS)
_DATASETS = {"type": "array", "items": _DATASET}
_EVENT = {"eventTime": _TIME, "producer": _URI, "schemaURL": _URI}
_SPEC = "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs"
# The required fields of an event of a run and of an event of a dataset, by the address of their schema.
_RUN_EVENT = _object(
    *(*_EVENT, "run", "job"),
    **_EVENT,
    eventType={"enum": ["START", "RUNNING", "COMPLETE", "ABORT", "FAIL", "OTHER"]},
    run=_object("runId", runId={"type": "string", "format": "uuid"}, facets=_FACETS),
    job=_object("namespace", "name", namespace=_TEXT, name=_TEXT, facets=_FACETS),
    inputs=_DATASETS,
    outputs=_DATASETS,
)
EVENTS = {
    f"{_SPEC}/RunEvent": _RUN_EVENT,
    f"{_SPEC}/DatasetEvent": _object(*_EVENT, "dataset", **_EVENT, dataset=_DATASET),
}
# Those of the facet columnLineage.
_FIELD = _object("namespace", "name", "field", namespace=_TEXT, name=_TEXT, field=_TEXT)
_COLUMN = _object("inputFields", inputFields={"type": "array", "minItems": 1, "items": _FIELD})
COLUMN_LINEAGE = _object("fields", fields={"type": "object", "minProperties": 1, "additionalProperties": _COLUMN})


def faults(value: Any, schema: dict[str, Any]) -> list[str]:
    """Return in which fields a value does not have the form of a schema."""
    validator = Draft202012Validator(schema, format_checker=FormatChecker(["uuid"]))
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(value)]


class _Handler(BaseHTTPRequestHandler):
    server: LineageServer

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.received.append((self.path, json.loads(body)))
        self.send_response(201)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


class LineageServer(InBackground, ThreadingHTTPServer):
    """Keeps (path, event) of each request in `received`."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.received: list[tuple[str, Any]] = []

    @property
    def url(self) -> str:
        """The value of OPENLINEAGE_URL."""
        return f"http://127.0.0.1:{self.server_port}"
