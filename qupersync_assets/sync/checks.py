"""The results of a job's checks, from the result of its load. A failed check never fails the run."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC
from typing import Any

from qupersync_assets.postgres.job_status import JobState
from qupersync_assets.postgres.loader import LoadResult, TableState
from qupersync_assets.postgres.sync_status import SyncStatus
from qupersync_assets.rows.source_read import SourceRead
from qupersync_assets.spec import RETENTION, SyncSpec
from qupersync_assets.spec.redshift_views import shows_own_rows

SKIPPED = "no_skipped_rows"
SCHEMA = "source_schema"
ALL_ROWS = "sees_all_rows"
GAP = "no_gap"
DATABASES = "reads_all_databases"
REMOVED = "finds_removed_rows"
# Syncs in a row that may leave undecided whether rows still exist.
MAX_UNDECIDED = 3


@dataclass(frozen=True)
class CheckResult:
    """The result of one check of a job after a load."""

    name: str
    passed: bool
    text: str
    is_error: bool = False  # if it has not passed; else it is a warning
    facts: Mapping[str, Any] = field(default_factory=dict)
    logged: str = ""  # the text for quper.sync_logs, if `text` may contain values of rows

    @property
    def status(self) -> str:
        """passed, warning or error."""
        return "passed" if self.passed else "error" if self.is_error else "warning"


def check_descriptions(spec: SyncSpec, max_skipped_ratio: float) -> dict[str, str]:
    """Return what each check of a job checks, by its name."""
    described = {
        SKIPPED: "All rows read from Redshift were loaded. Skipped rows are in quper.skipped_rows: an error "
        f"above {100 * max_skipped_ratio:g} %, else a warning.",
        SCHEMA: "The cluster has the system views that this table is read from, with exactly the documented columns.",
    }
    if shows_own_rows(spec.all_sources):
        described[ALL_ROWS] = "Redshift shows the rows of all users, not only those of the login user."
    if spec.kind == "history":
        described[GAP] = (
            f"No rows were lost: Redshift deletes rows after about {RETENTION.days} days, and it still had all rows "
            "since the last successful sync."
        )
    else:
        described[REMOVED] = "The last syncs found out which rows have been removed from the source."
    if spec.database_column:
        described[DATABASES] = "Each database of REDSHIFT_DATABASES exists and could be read."
    return described


def latest_checks(state: JobState, spec: SyncSpec) -> dict[str, dict[str, str | None]]:
    """Return status (passed, warning, error or unknown) and text of each check of the last run of a job that ended;
    the text of a check that has passed is None. They are unknown if that run ended before its checks."""
    found = state.last["checks"] if state.last else None
    other = {"status": "unknown" if found is None else "passed", "text": None}
    return {name: (found or {}).get(name, other) for name in check_descriptions(spec, 0)}


def check_results(
    spec: SyncSpec, result: LoadResult, state: TableState, max_skipped_ratio: float
) -> Iterator[CheckResult]:
    """Yield one result for each of `check_descriptions`."""
    yield _skipped_rows(result, max_skipped_ratio)
    yield _source_schema(result)
    if shows_own_rows(spec.all_sources):
        yield _all_rows(result.read)
    if spec.kind == "history":
        yield _gap(result)
    else:
        yield _removed_rows(result, state)
    if spec.database_column:
        yield _databases(result)


def _skipped_rows(result: LoadResult, max_ratio: float) -> CheckResult:
    """Pass without skipped rows; else warn, or report an error above `max_ratio` of the extracted rows."""
    counts = result.counts
    share = counts.skipped / counts.extracted if counts.extracted else 0.0
    text = logged = f"{counts.skipped} of {counts.extracted} rows skipped ({share:.2%})"
    if counts.skipped:
        reasons = [f"{row.column or '?'}: {row.reason}" for row in result.samples]
        # PostgreSQL's detail has values of the row.
        without_values = [reason.partition(" DETAIL")[0] for reason in reasons]
        found = "They are in quper.skipped_rows."
        text, logged = f"{text}: {_listed(reasons)}. {found}", f"{text}: {_listed(without_values)}. {found}"
    facts = {"rows_skipped": counts.skipped, "skipped_share": share}
    return CheckResult(SKIPPED, counts.skipped == 0, text, share > max_ratio, facts, logged)


def _listed(reasons: Iterable[str]) -> str:
    found = list(dict.fromkeys(reasons))
    return f"{'; '.join(found[:2])}{' ...' if len(found) > 2 else ''}"


def _source_schema(result: LoadResult) -> CheckResult:
    """Warn if the cluster has no source, or if the source lacks columns or has new ones."""
    read = result.read
    missing = read.missing_columns if read else ()
    new = read.new_columns if read else ()
    if result.status is SyncStatus.SKIPPED:
        text = f"Nothing was read: {result.reason}."
    elif read is None:
        text = result.reason
    else:
        text = f"Read from {read.name}."
        if read.passed_over:
            text += f" Preferred sources cannot be read: {'; '.join(read.passed_over)}."
        if missing:
            text += f" This cluster does not have these columns, which are NULL: {', '.join(missing)}."
        if new:
            text += f" New columns of the cluster that are not read: {', '.join(new)}."
    is_read = result.status is not SyncStatus.UNAVAILABLE or result.is_off
    passed = is_read and not missing and not new
    facts = {"source": result.source_name, "columns_missing": len(missing), "columns_ignored": len(new)}
    return CheckResult(SCHEMA, passed, text, facts=facts)


def _all_rows(read: SourceRead | None) -> CheckResult:
    """Warn if Redshift shows the user only the rows of its own work, which it does without an error."""
    if read is None:
        return CheckResult(ALL_ROWS, True, "Nothing was read.")
    visibility = read.visibility
    empty = f" Nothing was read: {read.why_empty}." if read.why_empty else ""
    if visibility is None:
        return CheckResult(ALL_ROWS, True, f"Every user who may read {read.name} sees all of its rows.{empty}")
    user, views = visibility.user, ", ".join(visibility.own_rows_views)
    if visibility.sees_all_rows:
        return CheckResult(ALL_ROWS, True, f"{user} ({visibility.privileges}) sees all rows of {views}.{empty}")
    text = (
        f"{user} sees only the rows of its own queries in {views}. As a superuser of that cluster: {visibility.grant}"
    )
    return CheckResult(ALL_ROWS, False, text + empty)


def _gap(result: LoadResult) -> CheckResult:
    """Warn in the first load after a pause that was too long; quper.sync_logs keeps the gap."""
    text = "No rows were lost."
    if result.gap:
        first, last = (time.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC") for time in result.gap)
        text = f"Rows from {first} to {last} are lost: Redshift deleted them before this sync could read them."
    return CheckResult(GAP, result.gap is None, text, facts={"gap_seconds": result.gap_seconds})


def _removed_rows(result: LoadResult, state: TableState) -> CheckResult:
    """Warn if several syncs in a row did not know whether rows still exist; such rows are not marked as removed."""
    loads = [log for log in state.last_runs if log["status"] in (SyncStatus.SUCCESS, SyncStatus.PARTIAL)]
    newest = [log["rows_undecided"] for log in loads[:MAX_UNDECIDED]]
    text = f"It is not known of {result.counts.undecided} rows whether the source still has them."
    passed = len(newest) < MAX_UNDECIDED or not all(newest)
    if not passed:
        text = (
            f"The last {MAX_UNDECIDED} syncs could not find out whether {newest[0]} rows still exist, so these rows "
            "have no removed_at. Redshift returned no rows, or rows with an invalid key (see quper.skipped_rows), or "
            "the connection to PostgreSQL was lost."
        )
    return CheckResult(REMOVED, passed, text, facts={"rows_undecided": result.counts.undecided})


def _databases(result: LoadResult) -> CheckResult:
    """Report an error for databases that could not be read: their rows are as old as their last load."""
    loaded = f"Loaded: {', '.join(result.databases)}." if result.databases else "Nothing was read."
    failed = [f"Not loaded: {failure.name}: {failure.reason}" for failure in result.failures]
    return CheckResult(
        DATABASES, not failed, " ".join([loaded, *failed]), is_error=True, facts={"databases_failed": len(failed)}
    )
