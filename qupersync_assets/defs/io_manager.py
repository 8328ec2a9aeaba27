"""The IO manager: loads a sync job into its table, and hands tables out as DataFrames."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import md5
from typing import TYPE_CHECKING, Any

import dagster as dg

from qupersync_assets.core.errors import ErrorClass, SyncError
from qupersync_assets.core.redaction import redact, redact_exceptions, redacted
from qupersync_assets.defs.names import IO_MANAGER_KEY, STANDALONE, Placement
from qupersync_assets.postgres.dataframe import read_table
from qupersync_assets.postgres.loader import LoadResult, TableState
from qupersync_assets.postgres.resource import PostgresResource
from qupersync_assets.spec import SCHEMA, SyncSpec
from qupersync_assets.sync.checks import CheckResult
from qupersync_assets.sync.load_job import SyncOutcome, SyncRequest, load_job
from qupersync_assets.sync_jobs import all_specs

if TYPE_CHECKING:
    import pandas as pd

_NUMBERS = re.compile(r"\d+(, *\d+)*")
COLUMN_LINEAGE, DEFINITION = "dagster/column_lineage", "definition"


@dataclass(frozen=True)
class LoadOutput:
    """What an asset hands to the IO manager."""

    request: SyncRequest
    # Adds metadata to the materialization alone: that of an IO manager is stored twice, with HANDLED_OUTPUT, too.
    add_metadata: Callable[[Mapping[str, Any]], None]
    known_definition: str = ""  # of the last materialization, see `_definition`
    outcome: Future[SyncOutcome] = field(default_factory=Future)  # set by the IO manager


class PostgresUpsertIOManager(dg.IOManager):
    """Loads a LoadOutput with batched upserts; each batch is one transaction."""

    def __init__(self, postgres: PostgresResource, placement: Placement = STANDALONE) -> None:
        self._postgres = postgres
        self._key = placement.resource(IO_MANAGER_KEY)
        self._tables = {placement.table_key(t): t for spec in all_specs() for t in spec.tables}

    def handle_output(self, context: dg.OutputContext, obj: LoadOutput) -> None:
        """Load a sync job into its table.

        Raises:
            Failure: the load failed, with a sentence that says why. Committed batches stay. Or the asset is not a
                sync job.
            RetryRequested: a transient error, and not of the last attempt.
        """
        if not isinstance(obj, LoadOutput):
            raise dg.Failure(
                f"{self._key} stores sync jobs of QuperSync only: give this asset another io_manager_key, and its "
                f"inputs from schema {SCHEMA} the input_manager_key {self._key}.",
                allow_retries=False,
            )
        spec, attempt = obj.request.spec, obj.request.attempt
        try:
            outcome = load_job(self._postgres, obj.request, context.run_id, context.log)
        except SyncError as error:
            reason = redact(str(error))
            metadata = {"sqlstate": error.sqlstate or "", "connection": str(error.connection), "problem": error.problem}
            failure = dg.Failure(reason, metadata=metadata, allow_retries=False)
            failure.__cause__ = redacted(error)
            if error.error_class is ErrorClass.TRANSIENT and not attempt.is_last:
                context.log.warning(f"{spec.sync_job_id}: {attempt.failure(reason)}")
                raise dg.RetryRequested(attempt.total - 1, attempt.delay) from failure
            raise failure from redacted(error)
        except Exception as error:
            text = redact(f"{type(error).__name__}: {error}")
            raise dg.Failure(text, allow_retries=False) from redacted(error)
        added = _metadata(spec, outcome)
        lineage: dg.TableColumnLineage = context.definition_metadata[COLUMN_LINEAGE]
        added[DEFINITION] = _definition(outcome.result, lineage)
        if added[DEFINITION] != obj.known_definition:  # else an earlier materialization has them
            added[COLUMN_LINEAGE] = lineage
            added["statement"] = _statement(outcome.result)
        obj.add_metadata(added)
        obj.outcome.set_result(outcome)

    def load_input(self, context: dg.InputContext) -> pd.DataFrame:
        """Return the table of the upstream asset, or only the columns in the input's metadata `columns`.

        Of a snapshot, rows that the source has lost are left out, unless the metadata `with_removed` is true. With
        several clusters, only rows of the requested partitions are returned. Integers, also with NULLs, and numerics
        stay exact (Int64, Decimal); times are UTC.

        Raises:
            Failure: the upstream asset is not a table of QuperSync.
        """
        table = self._tables.get(context.asset_key)
        if table is None:
            names = sorted(".".join(key.path) for key in self._tables)
            raise dg.Failure(
                f"{self._key} reads tables of QuperSync only, and {'.'.join(context.asset_key.path)} is none of them: "
                f"load this input with another input_manager_key, or from one of {', '.join(names)}.",
                allow_retries=False,
            )
        wanted = context.definition_metadata or {}
        clusters = context.asset_partition_keys if context.has_asset_partitions else None
        with redact_exceptions():
            return read_table(
                self._postgres.engine(),
                table,
                wanted.get("columns"),
                clusters,
                with_removed=bool(wanted.get("with_removed")),
            )


def _metadata(spec: SyncSpec, outcome: SyncOutcome) -> dict[str, Any]:
    """Return the metadata of a materialization: always the same keys and types.

    The UI plots each number under its key, hence keys that are titles; what is nearly always 0 is in `counts`.
    """
    result, state = outcome.result, outcome.state
    read, counts = result.read, result.counts
    return {
        "dagster/table_name": spec.table.fullname,
        "dagster/row_count": state.row_count,
        "checks": verdict(outcome.checks),
        **plotted(result, state),
        "counts": {"rows_upserted": counts.upserted, **counts.columns(), "gap_seconds": result.gap_seconds},
        "source": result.source_name,
        "read_mode": str(read.window.mode) if read else "none",
        "read_reason": read.window.reason if read else result.reason,
        "read_from": _timestamp(read.window.read_from if read else None),
        "read_to": _timestamp(read.read_to if read else None),
        "fast_path": f"off: {result.slow_path}" if result.slow_path else "on",
    }


def verdict(checks: Sequence[CheckResult]) -> str:
    """Return what the checks of a load found: the UI shows those of a run that is running as not evaluated."""
    found = [f"{check.name}, {check.status}: {check.text}" for check in checks if not check.passed]
    passed = f"{len(checks) - len(found)} of {len(checks)} passed"
    return f"{passed}. {' '.join(found)}" if found else passed


def plotted(result: LoadResult, state: TableState) -> dict[str, float]:
    """Return the numbers of a load that the UI plots, by their titles."""
    counts = result.counts
    return {
        "rows extracted from Redshift": counts.extracted,
        "rows inserted or updated": counts.inserted + counts.updated,
        "rows skipped as invalid": counts.skipped,
        "duration of the load in seconds": round(result.seconds, 3),
        "lag of the newest data in seconds": state.lag_seconds,
    }


def _definition(result: LoadResult, lineage: dg.TableColumnLineage) -> str:
    """Return a digest of the lineage and of the statement, apart from its numbers and times."""
    statement = _NUMBERS.sub("0", result.read.statement if result.read else "")
    return md5(f"{statement}{lineage}".encode(), usedforsecurity=False).hexdigest()[:12]


def _statement(result: LoadResult) -> dg.MetadataValue[Any]:
    return dg.MetadataValue.md(f"```sql\n{result.read.statement if result.read else ''}\n```")


def _timestamp(value: datetime | None) -> dg.MetadataValue[Any]:
    return dg.MetadataValue.timestamp(value) if value else dg.MetadataValue.text("everything that Redshift holds")
