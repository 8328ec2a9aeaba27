"""Dagster's storage in PostgreSQL, prepared once for all forks of a process.

Dagster opens its instance again in each run and each step: it inspects the tables three times, and compiles each
statement. The engines of this storage have no pool, so that a fork inherits no connection with them. Events are stored
in few bytes.
"""

import copy
from functools import cache
from typing import Any

from dagster_postgres import DagsterPostgresStorage

from qupersync_assets.serve.event_storage import CompactEventStorage

_prepared: dict[str, DagsterPostgresStorage] | None = None
_PARTS = ("_run_storage", "_event_log_storage", "_schedule_storage")


class ForkableStorage(DagsterPostgresStorage):
    """Dagster's storage; after `share_with_forks`, one that has been opened before is not opened again."""

    @classmethod
    def from_config_value(cls, inst_data: Any, config_value: Any) -> Any:
        """Return the storage of a configuration."""
        if _prepared is None:
            return _open(inst_data, config_value)
        key = str(sorted(config_value.items()))
        if key not in _prepared:
            _prepared[key] = found = _open(inst_data, config_value)
            events: Any = found.event_log_storage
            # It inspects the tables before each query; `dagster instance migrate` is followed by a restart.
            events.has_table = cache(events.has_table)
            events.has_asset_key_col = cache(events.has_asset_key_col)
        return _copy(_prepared[key])


def _open(inst_data: Any, config_value: Any) -> DagsterPostgresStorage:
    storage = DagsterPostgresStorage.from_config_value(inst_data, config_value)
    # It has created the tables.
    storage._event_log_storage = CompactEventStorage(storage.postgres_url, should_autocreate_tables=False)
    return storage


def share_with_forks() -> None:
    """Let this process, and all its forks, open the storage of a configuration once."""
    global _prepared
    _prepared = {}


def _copy(storage: DagsterPostgresStorage) -> DagsterPostgresStorage:
    """Return the same storage for another instance: each registers itself once."""
    copied = copy.copy(storage)
    for name in _PARTS:
        part = copy.copy(getattr(storage, name))
        part._instance_weakref = None
        setattr(copied, name, part)
    return copied
