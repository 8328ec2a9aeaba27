"""Settings, from environment variables or from values, validated once."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, ConfigDict, Field, PrivateAttr, SecretStr, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, SettingsConfigDict

from qupersync_assets.core.environment import read_secrets
from qupersync_assets.core.redaction import keep_secret
from qupersync_assets.settings.alerts import check_alert_urls
from qupersync_assets.settings.errors import (
    COMBINATION,
    REDSHIFT,
    SettingsError,
    check_names,
    explain,
    message_of,
    secret_lines,
)
from qupersync_assets.settings.executor import ExecutorSettings
from qupersync_assets.settings.health import check_thresholds
from qupersync_assets.settings.postgres import PostgresSettings
from qupersync_assets.settings.redshift import FIELDS, build_clusters, cluster_names, load_clusters
from qupersync_assets.settings.redshift_login import Interval, Port, RedshiftSettings
from qupersync_assets.settings.ui import UiSettings

__all__ = ["Settings", "SettingsError", "variables"]
Filled = Annotated[str, Field(min_length=1)]


def _time_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):  # no such file, a path outside, or a folder
        raise ValueError("allowed is an IANA time zone such as US/Pacific, UTC or Europe/Berlin") from None
    return name


def _job_intervals(text: str) -> str:
    pairs = [pair.split("=") for pair in check_names(text).split(",")]
    if malformed := ["=".join(pair) for pair in pairs if len(pair) != 2 or not all(part.strip() for part in pair)]:
        raise ValueError(f"allowed is job=seconds, unlike {malformed[0]!r}")
    intervals = {job.strip(): seconds.strip() for job, seconds in pairs}
    if len(intervals) < len(pairs):
        raise ValueError("a job is named twice")
    for job, seconds in intervals.items():
        try:
            TypeAdapter(Interval).validate_python(seconds)
        except ValidationError as error:
            raise ValueError(f"{message_of(error.errors()[0])}, unlike {seconds!r} of {job}") from None
    return ",".join(f"{job}={seconds}" for job, seconds in intervals.items())


class Settings(ExecutorSettings, PostgresSettings, UiSettings):
    """The settings of QuperSync by the names of their variables in lower case, and those of its clusters."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    sync_interval: Interval = Field(300, description="Seconds between two syncs.")
    sync_job_intervals: Annotated[str, AfterValidator(_job_intervals)] | None = None
    """Seconds between two syncs of individual jobs: table_stats_sync=900,column_stats_sync=3600."""
    sync_jobs: Annotated[str, AfterValidator(check_names)] = "default"
    """Sync jobs to run, separated by commas; `default` stands for all jobs that are not optional."""
    sync_batch_size: int = Field(1000, ge=1, le=100_000)
    """Rows read from Redshift at a time, and written in one transaction."""
    sync_lookback: int = Field(3600, ge=0, le=7 * 86400)
    """Overlap of incremental reads: seconds before the newest loaded row that are read again."""
    sync_include_self: bool = Field(False, description="Whether query_history includes QuperSync's own queries.")
    sync_timezone: Annotated[str, AfterValidator(_time_zone)] = "US/Pacific"
    """Time zone of the schedule; data are always in UTC."""
    sync_misfire_grace: int = Field(60, ge=1, description="Seconds after which a late tick is skipped.")
    sync_max_skipped_ratio: float = Field(0.05, ge=0, le=1)
    """Share of skipped rows, from 0 to 1, above which the check no_skipped_rows is an error."""
    sync_max_retries: int = Field(3, ge=0, le=20)
    """Number of retries of a sync job after a temporary failure."""
    sync_retry_delay: float = Field(5, ge=0, le=3600)
    """Seconds before the first retry; the delay doubles with each retry."""
    sync_max_missed: int = Field(3, ge=1, le=1000)
    """A job that has not succeeded for this number of intervals is reported as a problem."""
    quper_retention_days: int | None = Field(None, ge=8)
    """Days to keep rows of history tables (not set: forever), and removed rows of snapshot tables (not set: 90)."""
    quper_daily_retention_days: int | None = Field(None, ge=2)
    """Days to keep rows of daily tables, sums over queries and resolved findings (not set: forever)."""
    sync_max_runtime: int = Field(3600, ge=60)
    """Seconds after which Dagster ends a run; with celery, at least twice CELERY_STEP_TIMEOUT."""
    sync_log_retention_days: int = Field(90, ge=1)
    """Days to keep rows of quper.sync_logs and quper.skipped_rows."""
    dagster_run_retention_days: int = Field(14, ge=1)
    """Days to keep Dagster's runs and their events; the last 100 runs are always kept."""
    sync_auto_migrate: bool = True
    """Whether a sync upgrades the schema quper; if false, run `qupersync migrate` after each upgrade."""
    sync_query_text: Literal["full", "redacted", "none"] = "full"
    """Text of SQL statements: full, redacted (literals become ?) or none (NULL)."""
    clusters: Annotated[str, AfterValidator(lambda text: ",".join(cluster_names(text)))] | None = None
    """Names of several clusters, separated by commas; the variables of each begin with REDSHIFT_<NAME>_."""
    cluster_name: Filled = Field("default", description="Name of the Redshift cluster in the tables.")

    health_findings: bool = True
    """Whether the clusters are checked for problems after each sync; `qupersync health` prints them."""
    health_large_table_rows: int = Field(5_000_000, ge=1)
    """A table with more rows is a large table for the signals of docs/health.md."""
    health_thresholds: Annotated[str, AfterValidator(check_thresholds)] = ""
    """Changed thresholds of the signals of docs/health.md: SIGNAL=NUMBER or SIGNAL=off, separated by commas."""
    health_alert_severity: Literal["off", "critical", "warning", "info"] = "off"
    """Lowest severity of the new findings that are sent to ALERT_URLS; off: none is sent."""

    # https://docs.dagster.io/guides/build/assets/metadata-and-tags: the owners that Dagster accepts.
    asset_owner: str = Field(
        "team:data-platform", pattern=r"^(team:.+|[A-Za-z0-9_.%+-]+@[A-Za-z0-9.-]+\.[A-Za-z]{2,7})$"
    )
    """Owner of the assets: an e-mail address, or team: and a name."""
    code_url: str | None = Field(None, pattern=r"^https?://[^\s/]+/\S+$")
    """Web address of the source code, to which the UI links: https://github.com/OWNER/NAME/tree/main."""
    metrics_host: Filled = Field("127.0.0.1", description="Address on which `qupersync metrics` listens.")
    metrics_port: Port = Field(9464, description="Port of `qupersync metrics`.")

    log_format: Literal["text", "json"] = "text"
    """Format of the logs of all processes: one line per record, as text or as a JSON object."""
    alert_urls: Annotated[SecretStr, AfterValidator(check_alert_urls)] | None = Field(
        None,
        description="Apprise URLs of the services that get alerts, separated by commas or spaces; see "
        "https://github.com/caronc/apprise/wiki. A secret.",
    )

    alert_severity: Literal["warning", "error"] = "warning"
    """Lowest severity of the alerts that are sent."""

    _clusters: dict[str, RedshiftSettings] = PrivateAttr({})

    @classmethod
    def load(cls, *, logins: bool = True) -> Settings:
        """Load the settings from the environment of the process, or raise SettingsError about all its problems.

        Without `logins` the settings of Redshift's logins are not read, and need not be there: the clusters have their
        names, jobs and intervals only.
        """
        lines = secret_lines(read_secrets())
        given = {name.lower(): value for name, value in os.environ.items() if value}
        try:
            settings: Settings = _EnvironmentSettings()
        except ValidationError as error:
            lines += [_line(str(problem["loc"][0]).upper(), **problem) for problem in error.errors()]
        if {"clusters", "cluster_name"} <= given.keys():
            lines += [_line("CLUSTER_NAME", type=COMBINATION, msg="allowed is this or CLUSTERS, not both")]
        name = given.get("cluster_name", cls.model_fields["cluster_name"].default)
        try:
            clusters = load_clusters(given.get("clusters"), name, logins=logins)
        except SettingsError as error:
            lines += error.lines
        if lines:
            raise SettingsError(list(dict.fromkeys(lines)))
        settings._clusters = clusters
        return settings

    @classmethod
    def build(cls, clusters: Mapping[str, Mapping[str, Any]], **values: Any) -> Settings:
        """Build settings from values alone; the environment is not read. Values that are None or "" are not set.

        Args:
            clusters: the login of each cluster, by its name: variables REDSHIFT_* without this prefix, in lower case.
            values: other settings, by the names of their variables in lower case.

        Raises:
            SettingsError: values are missing or not allowed; it names all of them.
        """
        lines: list[str] = []
        given = {name: value for name, value in values.items() if value not in (None, "")}
        given["clusters" if len(clusters) > 1 else "cluster_name"] = ",".join(clusters)
        try:
            settings = cls(**given)
        except ValidationError as error:
            lines += [_line(str(problem["loc"][0]), **problem) for problem in error.errors()]
        try:
            logins = build_clusters(clusters)
        except SettingsError as error:
            lines += error.lines
        if lines:
            raise SettingsError(list(dict.fromkeys(lines)), "Check these settings:")
        settings._clusters = logins
        for value in (value for model in (settings, *logins.values()) for _, value in model):
            if isinstance(value, SecretStr):
                keep_secret(value.get_secret_value())
        return settings

    def by_cluster(self) -> dict[str, RedshiftSettings]:
        """Return the settings of each Redshift cluster, by the cluster's name."""
        return self._clusters

    def job_intervals(self) -> dict[str, int]:
        """Return SYNC_JOB_INTERVALS: seconds by sync_job_id, as they were given."""
        pairs = (pair.split("=") for pair in (self.sync_job_intervals or "").split(",") if pair)
        return {job: int(seconds) for job, seconds in pairs}

    def interval(self, cluster: str, sync_job_id: str) -> int:
        """Return the seconds between two syncs of a job of a cluster.

        Where both the cluster and the job have an interval of their own, the longer one applies: the cluster is not
        contacted more often than its own interval says.
        """
        own, of_job = self._clusters[cluster].sync_interval, self.job_intervals().get(sync_job_id)
        return max(own or 0, of_job or 0) or self.sync_interval

    @property
    def max_silence(self) -> float:
        """Seconds without a sign of life after which a run that loads no job is dead.

        A living run is silent for a shorter time: 60 for the start of its processes, the longest delay before
        a retry (exponential, with jitter), and the time that a step waits for a Celery worker.
        """
        retry = self.sync_retry_delay * 2**self.sync_max_retries if self.sync_max_retries else 0
        queue = self.celery_step_timeout if self.sync_executor == "celery" else 0
        return 60.0 + retry + queue

    def time_zone(self) -> ZoneInfo:
        """Return the time zone of the schedule."""
        return ZoneInfo(self.sync_timezone)

    def environment(self) -> dict[str, str]:
        """Return every setting as an environment variable, defaults included; secrets as plain text."""
        values = {name: value for name, value in self if not (self.clusters and name == "cluster_name")}
        for source in self._clusters.values():
            values |= {f"{source.prefix}_{field}": value for field, value in source}
        return {name.upper(): _text(value) for name, value in values.items() if value is not None}


class _EnvironmentSettings(BaseSettings, Settings):
    model_config = SettingsConfigDict(extra="ignore", env_ignore_empty=True)


def _line(name: str, **problem: Any) -> str:
    field = Settings.model_fields.get(name.lower())
    return explain(problem, name, field) if field else f"  {name}: there is no such setting."


def _text(value: Any) -> str:
    """Return a value as the environment contains it."""
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    return str(value).lower() if isinstance(value, bool) else str(value)


def variables() -> dict[str, FieldInfo]:
    """Return the field of each environment variable; those of Redshift without a cluster's name."""
    redshift = {f"{REDSHIFT}_{name.upper()}": field for name, field in FIELDS.items()}
    return {name.upper(): field for name, field in Settings.model_fields.items()} | redshift
