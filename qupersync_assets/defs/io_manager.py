"""The IO manager: drains a Feed into its table batch by batch, and hands tables out as DataFrames."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import dagster as dg
import psycopg2
import sqlalchemy as sa
from pydantic import Field

from qupersync_assets.core.errors import (
    ErrorClass,
    LoadError,
    load_error,
    redact,
    secrets_kept,
    without_secrets,
)
from qupersync_assets.defs.run_health import clear_away
from qupersync_assets.postgres import skipped_rows
from qupersync_assets.postgres import sync_logs as sync_log
from qupersync_assets.postgres.advisory_lock import Busy, JobConnection
from qupersync_assets.postgres.batch_writer import BatchWriter
from qupersync_assets.postgres.resource import PostgresResource
from qupersync_assets.postgres.schema import ensure_schema
from qupersync_assets.postgres.watermark import find_lag, find_window
from qupersync_assets.redshift.source import Unavailable
from qupersync_assets.rows.coercion import Counts, Rejected
from qupersync_assets.rows.source_read import Feed
from qupersync_assets.spec.sync_spec import METADATA, RETENTION

if TYPE_CHECKING:
    import pandas as pd

SAMPLES = 5
LAST_RUNS = 10
LINEAGE = "dagster/column_lineage"


class PostgresUpsertIOManager(dg.ConfigurableIOManager):
    """Upserts Feeds; each batch is one transaction, and one row in quper.sync_logs tells of all of them."""

    postgres: PostgresResource
    lookback: float = Field(description="Seconds before the newest known row that are read again.")
    max_silence: float = Field(description="Seconds after which a silent earlier run is taken for dead.")

    def handle_output(self, context: dg.OutputContext, obj: Feed) -> None:
        """Load a Feed into its table.

        Raises:
            Failure: the load broke off, with a sentence that says why. The batches before it stay; retries
                are allowed only where the cause may pass by itself.
        """
        try:
            self._load(context, obj)
        except LoadError as error:
            raise dg.Failure(
                redact(str(error)),
                metadata={"sqlstate": error.sqlstate or ""},
                allow_retries=error.error_class is ErrorClass.TRANSIENT,
            ) from without_secrets(error)
        except Exception as error:
            text = redact(f"{type(error).__name__}: {error}")
            raise dg.Failure(text, allow_retries=False) from without_secrets(error)

    def load_input(self, context: dg.InputContext) -> pd.DataFrame:
        """The table of the upstream asset, or only the columns named in the input's metadata `columns`.

        Of several clusters, it has the rows of those whose partitions are wanted. Integers, also those with
        NULLs, and numerics stay exact (Int64, Decimal); times are UTC.
        """
        table = METADATA.tables[".".join(context.asset_key.path)]
        names = (context.definition_metadata or {}).get("columns")
        clusters = context.asset_partition_keys if context.has_asset_partitions else None
        with secrets_kept():
            return read_table(self.postgres.engine(), table, names, clusters)

    def _load(self, context: dg.OutputContext, feed: Feed) -> None:
        started = time.monotonic()
        spec = feed.spec
        ensure_schema(self.postgres)
        instance = context.step_context.instance
        clear_away(instance, self.postgres, feed.cluster, [spec], self.max_silence, context.run_id)
        with closing(JobConnection(self.postgres.engine(), feed.cluster, spec.sync_job_id)) as target:
            try:
                with _told(f"Beginning with {spec.table.fullname}"), target.begin() as connection:
                    log_id = sync_log.start(connection, feed.cluster, spec.sync_job_id, context.run_id)
            except Busy as holder:
                self._skip(context, feed, str(holder))
            else:
                self._write(context, feed, target, log_id)
        seconds = time.monotonic() - started
        with self.postgres.transaction() as connection:
            lag = find_lag(connection, spec, feed.cluster)
            feed.last_runs = sync_log.last_runs(connection, feed.cluster, spec.sync_job_id, LAST_RUNS)
        metadata = _metadata(feed, seconds, lag, self.postgres.count_rows(spec.table, feed.cluster))
        # Where Dagster looks for it; that of the definition is not shown.
        metadata[LINEAGE] = context.definition_metadata[LINEAGE]
        context.add_output_metadata(metadata)

    def _write(self, context: dg.OutputContext, feed: Feed, target: JobConnection, log_id: int) -> None:
        """Load the pages, and close the log row however it ends."""
        spec = feed.spec
        try:
            with _told(f"Looking at {spec.table.fullname}"), target.begin() as connection:
                lookback = timedelta(seconds=self.lookback)
                feed.source.window = find_window(connection, spec, feed.cluster, lookback, feed.full_refresh)
                if spec.kind == "history":
                    feed.gap = sync_log.find_gap(connection, feed.cluster, spec.sync_job_id, RETENTION)
            writer = self._write_pages(context, feed, target, log_id)
            with _told(f"Ending with {spec.table.fullname}"), target.begin() as connection:
                writer.mark_removed(connection)
                if spec.after_load is not None:
                    connection.execute(spec.after_load, {"cluster": feed.cluster})
                gap_from, gap_to = feed.gap or (None, None)
                sync_log.finish(
                    connection,
                    log_id,
                    "success",
                    feed.source.name,
                    columns_missing=feed.source.missing_names,
                    rows_removed=writer.counts.removed,
                    read_from=feed.source.window.since,
                    read_to=feed.source.read_to,
                    read_why=feed.source.window.why,
                    gap_from=gap_from,
                    gap_to=gap_to,
                )
        except Unavailable as reason:
            context.log.info(str(reason))
            with self.postgres.transaction() as connection:
                sync_log.finish(connection, log_id, "unavailable", error=str(reason))
        except BaseException as error:
            self._close(context, log_id, feed, error)
            raise

    def _write_pages(
        self, context: dg.OutputContext, feed: Feed, target: JobConnection, log_id: int
    ) -> BatchWriter:
        spec = feed.spec

        def finish(connection: sa.Connection, counts: Counts, rejected: list[Rejected]) -> None:
            skipped_rows.record(connection, spec, feed.cluster, context.run_id, rejected)
            sync_log.keep_up(connection, log_id, counts)

        writer = BatchWriter(target, spec, finish)
        with _told(f"Writing {spec.table.fullname}"), closing(feed.pages):
            for page in feed.pages:
                rejected = writer.write(page)
                feed.counts = writer.counts
                for bad in rejected[: SAMPLES - len(feed.samples)]:
                    feed.samples.append(bad)
                    context.log.warning(f"Skipped a row: {bad.column}: {bad.reason}")
        return writer

    def _skip(self, context: dg.OutputContext, feed: Feed, holder: str) -> None:
        """Leave the job to the run that loads it, and say so."""
        feed.skipped = holder
        context.log.info(f"Skipped: {holder}")
        with self.postgres.transaction() as connection:
            log_id = sync_log.start(connection, feed.cluster, feed.spec.sync_job_id, context.run_id)
            sync_log.finish(connection, log_id, "skipped", error=holder)

    def _close(self, context: dg.OutputContext, log_id: int, feed: Feed, error: BaseException) -> None:
        """Close the log row of a load that broke off; if PostgreSQL is away, the next run does it."""
        stopped = isinstance(error, dg.DagsterExecutionInterruptedError | KeyboardInterrupt | GeneratorExit)
        text = "terminated" if stopped else redact(f"{type(error).__name__}: {error}")
        try:
            with self.postgres.transaction() as connection:
                status: sync_log.Ending = "canceled" if stopped else "failed"
                sync_log.finish(connection, log_id, status, feed.source.name, text)
        except LoadError as unreachable:
            context.log.warning(f"quper.sync_logs could not be closed: {redact(str(unreachable))}")


@contextmanager
def _told(doing: str) -> Iterator[None]:
    """Turn errors of PostgreSQL into a LoadError that says what was being done."""
    try:
        yield
    except (sa.exc.DBAPIError, sa.exc.TimeoutError, psycopg2.Error) as error:
        raise load_error(error, "POSTGRES", f"{doing} failed") from error


def _metadata(feed: Feed, seconds: float, lag: int, row_count: int) -> dict[str, Any]:
    """What a materialization tells: the same keys, with the same types, each time, so that they plot."""
    counts = feed.counts
    return {
        "dagster/table_name": feed.spec.table.fullname,
        "dagster/row_count": row_count,
        "rows_upserted": counts.upserted,
        **counts.columns(),
        "duration_ms": round(seconds * 1000),
        "rows_per_second": round(counts.extracted / seconds, 1),
        "lag_seconds": lag,
        "source": feed.source_name,
        "read_why": feed.source.window.why,
        "read_from": _time(feed.source.window.since),
        "read_to": _time(feed.source.read_to),
        "gap_seconds": round((feed.gap[1] - feed.gap[0]).total_seconds()) if feed.gap else 0,
        "statement": dg.MetadataValue.md(f"```sql\n{feed.source.statement}\n```"),
    }


def _time(value: datetime | None) -> dg.MetadataValue[Any]:
    return dg.MetadataValue.timestamp(value) if value else dg.MetadataValue.text("all that Redshift holds")


def read_table(
    engine: sa.Engine, table: sa.Table, names: Sequence[str] | None, clusters: Sequence[str] | None = None
) -> pd.DataFrame:
    """A table as a DataFrame, without a detour through float.

    Args:
        names: the columns wanted, in that order; None for all.
        clusters: those whose rows are wanted; None for all.

    Raises:
        ValueError: the table has no column of that name.
    """
    import pandas as pd  # slow to import, and the syncs themselves do without

    unknown = sorted(set(names or ()) - set(table.c.keys()))
    if unknown:
        raise ValueError(
            f"{table.fullname} has no column {', '.join(unknown)}; it has {', '.join(table.c.keys())}"
        )
    columns = [table.c[n] for n in names] if names is not None else list(table.c)
    wanted = sa.true() if clusters is None else table.c.cluster.in_(clusters)
    with engine.connect() as connection:
        rows = connection.execute(sa.select(*columns).where(wanted)).all()
    values = zip(*rows, strict=True) if rows else [()] * len(columns)
    return pd.DataFrame(
        {c.name: pd.Series(list(v), dtype=_dtype(c.type)) for c, v in zip(columns, values, strict=True)}
    )


def _dtype(type_: sa.types.TypeEngine[Any]) -> Any:
    if isinstance(type_, sa.Integer):
        return "Int64"
    if isinstance(type_, sa.Boolean):
        return "boolean"
    if isinstance(type_, sa.DateTime):
        return "datetime64[us, UTC]"
    return "object"
