"""Types of the fixtures that run SQL, syncs and commands, and functions that read their results."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import dagster as dg

from qupersync_assets.redshift.resource import RedshiftResource
from qupersync_assets.rows.page import Page


class SyncResult(NamedTuple):
    """A run without Dagster: whether each job is loaded, has no source, or is loaded by another run."""

    run_id: str
    success: bool


class Answer(NamedTuple):
    """The exit code and the output of a command."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The parsed stdout, which must be JSON and nothing else."""
        return json.loads(self.out)


Query = Callable[..., list[tuple[Any, ...]]]
Sync = Callable[..., SyncResult]
Materialize = Callable[..., dg.ExecuteInProcessResult]
Command = Callable[..., Answer]

LOG_COLUMNS = (
    "rows_extracted, rows_inserted, rows_updated, rows_unchanged, rows_duplicate, rows_skipped, batches, status"
)


def checks(result: dg.ExecuteInProcessResult, name: str) -> dict[str, dg.AssetCheckEvaluation]:
    """Return the evaluations of a check, by table."""
    found = result.get_asset_check_evaluations()
    return {e.asset_key.path[-1]: e for e in found if e.check_name == name}


def pages_of(redshift: RedshiftResource, sql: str, size: int) -> Iterator[Page]:
    """Yield the pages of a statement, read in a new session."""
    with redshift.session() as session:
        for page in session.pages(sql, size):
            yield page.decoded()
