"""The JSON that each verb prints with --json: what scripts may rely on. Keys are added, and not renamed or removed
within a major version. `tools/generate_docs.py` writes the schemas to docs/reference, and tests hold them."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

import sqlalchemy as sa
from pydantic import BaseModel, ConfigDict, Field, RootModel, create_model

from qupersync_assets.health.signal import Severity
from qupersync_assets.postgres.health_tables import HEALTH_FINDINGS, HEALTH_SIGNALS
from qupersync_assets.postgres.health_views import HEALTH_VIEWS
from qupersync_assets.postgres.sync_logs import SYNC_LOGS
from qupersync_assets.postgres.sync_status import SyncStatus


class Document(BaseModel):
    """A JSON object whose keys are all named here."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


class Error(Document):
    """Printed instead of the document of a verb that could not run."""

    error: str
    """The sentence that is also on stderr."""


class FailedCheck(Document):
    """A check that has not passed."""

    status: Literal["warning", "error"]
    text: str


_TYPES: dict[type, Any] = {sa.Integer: int, sa.Numeric: float, sa.DateTime: datetime, sa.Text: str}
_SPECIAL: dict[str, Any] = {"status": SyncStatus, "columns_missing": list[str], "checks": dict[str, FailedCheck]}


def _type(column: sa.Column[Any]) -> Any:
    return next(t for of, t in _TYPES.items() if isinstance(column.type, of))


def _field(column: sa.Column[Any]) -> Any:
    kind = _SPECIAL.get(column.name) or _type(column)
    nullable = column.nullable and not column.name.startswith("rows_")
    return (kind | None if nullable else kind, Field(description=column.comment or "number of the row"))


LogRow = create_model(
    "LogRow", __base__=Document, __doc__="A row of quper.sync_logs.", **{c.name: _field(c) for c in SYNC_LOGS.c}
)


class SyncedJob(LogRow):
    """A row of quper.sync_logs, with the errors of its checks."""

    check_errors: dict[str, str]
    """Text of each check that has an error, by its name."""


class Sync(Document):
    """`qupersync sync --json`, and `qupersync demo --json`"""

    ok: bool
    """Whether the exit code is 0."""
    in_dagster: bool
    """Whether the run is recorded in a Dagster instance."""
    jobs: list[SyncedJob]
    """A row for each job of each cluster."""


class Daemon(Document):
    """The daemon of the Dagster instance."""

    fresh: bool
    """Whether it runs."""
    heartbeat_seconds: float | None
    """Seconds since its last heartbeat."""
    detail: str
    """Both in words."""


class Schedule(Document):
    """The schedule of the syncs."""

    name: str
    interval_seconds: int
    on: bool | None
    """Whether it is switched on; null without a Dagster instance."""
    next_run: datetime | None
    """Start of the next sync; null if the schedule is switched off."""
    daemon: Daemon | None
    """Null without a Dagster instance."""


class Check(Document):
    """The latest result of a check."""

    status: Literal["passed", "warning", "error", "unknown"]
    """Unknown: the last run ended before its checks."""
    text: str | None
    """What a check found that has not passed."""


class JobStatus(Document):
    """One job of one cluster."""

    cluster: str
    sync_job_id: str
    status: str
    """Status of the run that is running, else of the last one; `never`, or `off (SYNC_JOBS)`."""
    running: LogRow | None
    last_run: LogRow | None
    """The last run that ended."""
    last_success_at: datetime | None
    failures_since_success: int
    next_run: datetime | None
    lag_seconds: float | None
    """Age of the newest row of a history table; time since the last read of a snapshot table."""
    seconds_since_success: float | None
    checks: dict[str, Check] | None
    """By name; null if the job is off."""
    needs_attention: str | None
    """Why, in a few words."""


class Status(Document):
    """`qupersync status --json`"""

    ok: bool
    """Whether the exit code is 0."""
    problems: list[str]
    """Problems that concern no single job."""
    schedule: Schedule
    jobs: list[JobStatus]


class History(RootModel[list[LogRow]]):
    """`qupersync history --json`: an array, newest first."""


class EvaluatedCluster(Document):
    """A cluster that was evaluated."""

    cluster: str
    evaluated_at: datetime


# Columns of the health views that their tables call otherwise.
_RENAMED = {"value": "value_now", "since": "opened_at", "signal_status": "status", "signal_reason": "reason"}


def _row_of_view(name: str, **computed: Any) -> Any:
    """Return the model of a row; `computed` are the types of columns that are no column of a table."""
    [view] = [view for view in HEALTH_VIEWS if view.name == name]

    def type_of(column: str) -> Any:
        if column in computed:
            return computed[column]
        table = _RENAMED.get(column, column)
        if (found := HEALTH_FINDINGS.c.get(table)) is not None:
            return _type(found) | None if found.nullable else _type(found)
        return _type(HEALTH_SIGNALS.c[table]) | None  # a finding may be older than its signal

    fields = {column: (type_of(column), Field(description=text)) for column, text in view.columns.items()}
    return create_model(name, __base__=Document, __doc__=f"A row of quper.{name}.", **fields)  # type: ignore[call-overload]


_Group = _row_of_view(
    "health_summary",
    **dict.fromkeys(("group_id", "cluster"), str),
    **dict.fromkeys(("position", "signals", "evaluated", "critical", "warning", "info"), int),
    **dict.fromkeys(("oldest", "newest"), datetime | None),
)
_Finding = _row_of_view("health_open", severity=Severity, severity_rank=int, priority=float)


class NotEvaluated(Document):
    """A signal that the last evaluation left out."""

    cluster: str
    group_id: str
    signal_id: str
    status: str
    reason: str | None


class Health(Document):
    """`qupersync health --json`"""

    worst: Severity | None
    """Severity of the worst selected finding; it decides the exit code."""
    clusters: list[EvaluatedCluster]
    groups: list[_Group]  # type: ignore[valid-type]
    findings: list[_Finding]  # type: ignore[valid-type]
    """All selected findings, the worst first."""
    not_evaluated: list[NotEvaluated]
    html: str | None = None
    """Path of the page that --html has written."""


class Old(Document):
    """One kind of old rows or runs."""

    what: str
    older_than: float
    """Age in seconds."""
    rows: int


class Purge(Document):
    """`qupersync purge --json`"""

    deleted: bool
    """False with --dry-run."""
    old: list[Old]


class StoredCluster(Document):
    """What the tables hold of one cluster."""

    cluster: str
    in_settings: bool
    rows: int
    rows_by_table: dict[str, int]
    size_bytes: int
    newest_row_at: datetime | None
    last_success_at: datetime | None


class Clusters(Document):
    """`qupersync clusters --json`"""

    clusters: list[StoredCluster]


class ChangedCluster(Document):
    """`qupersync clusters rename --json` and `qupersync clusters forget --json`"""

    changed: bool
    """False without --yes."""
    rows: dict[str, int]
    """By table."""
    notes: list[str]


class Metrics(Document):
    """`qupersync metrics --json`, printed when it serves."""

    metrics: str
    health: str


class Finding(Document):
    """The result of one examination."""

    side: Literal["settings", "redshift", "postgres", "dagster"]
    what: str
    detail: str
    remedy: str | None
    """SQL or setting that fixes the problem; null if there is none."""
    cluster: str | None
    """One of several clusters, if it concerns one."""
    ok: bool


class Doctor(Document):
    """`qupersync doctor --json`"""

    ok: bool
    """Whether the exit code is 0."""
    findings: list[Finding]


class Migrate(Document):
    """`qupersync migrate --json`"""

    before: str | None
    """Version of the schema; null: there was none."""
    after: str


class Init(Document):
    """`qupersync init --json`"""

    file: str
    variables: list[str]
    """Names of the settings in the file."""
    tested: bool
    """Whether both logins were tested."""


class Up(Document):
    """`qupersync up --json`, printed when it serves."""

    ui: str
    logs: str


DOCUMENTS: dict[str, type[BaseModel]] = {
    "init": Init,
    "up": Up,
    "sync": Sync,
    "status": Status,
    "health": Health,
    "history": History,
    "purge": Purge,
    "metrics": Metrics,
    "doctor": Doctor,
    "migrate": Migrate,
    "demo": Sync,
    "clusters": Clusters,
    "clusters rename": ChangedCluster,
    "clusters forget": ChangedCluster,
}
# Exit code -> meaning, verbs.
EXIT_CODES = {
    0: ("Done. `sync`: no job failed. `status`: no job needs attention. `doctor`: no problem.", "all"),
    1: ("An error, a failed job, a job that needs attention, or a problem; stderr has the reason.", "all"),
    2: ("The command line is wrong: unknown verb, option, job or cluster.", "all"),
    3: ("A selected finding is a warning, and none is critical.", "health"),
    4: ("A selected finding is critical.", "health"),
    78: ("A login is refused; a service manager must not repeat it.", "up"),
    130: ("Stopped with Ctrl-C or SIGTERM. Committed batches stay.", "sync, demo --once"),
}
