"""Dagster's events in PostgreSQL, in an eighth of their bytes.

Dagster stores each event as JSON of one to five kilobytes, most of which is in every other event too; PostgreSQL
compresses no row below two kilobytes. Here texts are compressed with examples of events as a dictionary, and events
that others repeat are not stored.
"""

import base64
import zlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import dagster as dg
import sqlalchemy as sa
from dagster._core.storage.event_log.schema import AssetCheckExecutionsTable, SqlEventLogStorageTable
from dagster_postgres import PostgresEventLogStorage
from dagster_postgres.utils import pg_url_from_config

from qupersync_assets.postgres.connection import Dialect

# Rows can be read only with the dictionary that they were written with: another one needs another prefix.
_PREFIX, _EXAMPLES = "z1:", Path(__file__).with_name("event_examples.jsonl")
_RAW = -zlib.MAX_WBITS  # without header and checksum
Kind = dg.DagsterEventType
# How a step came to run. Its start, its output and each failure are other events.
_PROGRESS = {
    Kind.STEP_WORKER_STARTING,
    Kind.STEP_WORKER_STARTED,
    Kind.RESOURCE_INIT_STARTED,
    Kind.RESOURCE_INIT_SUCCESS,
}


class CompressedText(sa.types.TypeDecorator[str]):
    """A text that is compressed in the database; texts that were stored as they are can be read too."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: sa.Dialect) -> str | None:
        """Return what is stored: the text itself in a database that another storage of this process has."""
        if value is None or not isinstance(dialect, Dialect):
            return value
        packer = zlib.compressobj(wbits=_RAW, zdict=_examples())
        return _PREFIX + base64.b64encode(packer.compress(value.encode()) + packer.flush()).decode()

    def process_result_value(self, value: str | None, dialect: sa.Dialect) -> str | None:
        """Return the text."""
        return None if value is None else decompress(value)


class CompactEventStorage(PostgresEventLogStorage):
    """Dagster's storage of events with compressed texts, and without events that others repeat."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._output: dg.EventLogEntry | None = None  # stored with the next event, which says whether it is a check's
        for column in (SqlEventLogStorageTable.c.event, AssetCheckExecutionsTable.c.evaluation_event):
            column.type = CompressedText()

    @classmethod
    def from_config_value(cls, inst_data: Any, config_value: Mapping[str, Any]) -> "CompactEventStorage":
        """Return the storage of an entry of dagster.yaml; Dagster's own method makes one of its class."""
        return cls(pg_url_from_config(config_value), inst_data=inst_data)

    def store_event(self, event: dg.EventLogEntry) -> None:
        """Store an event, unless it is one that others repeat."""
        output, self._output = self._output, None
        if output and not _is_result(event, output):
            super().store_event(output)
        if event.dagster_event_type == Kind.STEP_OUTPUT:
            self._output = event
        elif event.dagster_event_type == Kind.ASSET_CHECK_EVALUATION_PLANNED:
            self.store_asset_check_event(event, None)  # the table of checks has it
        elif not _is_progress(event):
            super().store_event(event)


def _is_result(entry: dg.EventLogEntry, output: dg.EventLogEntry) -> bool:
    """Return whether an event is the evaluation of a check whose result is the output of a step."""
    event: Any = entry.dagster_event
    if event is None or event.event_type != Kind.ASSET_CHECK_EVALUATION or entry.step_key != output.step_key:
        return False
    check, step_output = event.asset_check_evaluation_data, output.get_dagster_event().step_output_data
    name = f"{check.asset_key.to_python_identifier()}_{check.check_name}"
    return bool(step_output.step_output_handle.output_name == name)


def _is_progress(entry: dg.EventLogEntry) -> bool:
    """Return whether an event says no more than that a step has come so far."""
    event: Any = entry.dagster_event
    if event and event.event_type == Kind.HANDLED_OUTPUT:
        return not event.event_specific_data.metadata
    return bool(event and event.event_type in _PROGRESS)


def decompress(stored: str) -> str:
    """Return the text that CompressedText has stored, or that was stored as it is."""
    if not stored.startswith(_PREFIX):
        return stored
    unpacker = zlib.decompressobj(wbits=_RAW, zdict=_examples())
    return (unpacker.decompress(base64.b64decode(stored[len(_PREFIX) :])) + unpacker.flush()).decode()


@cache
def _examples() -> bytes:
    return _EXAMPLES.read_bytes()
