"""Settings from environment variables, validated once, at load."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, available_timezones

from pydantic import AfterValidator, BaseModel, Field, PrivateAttr, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from qupersync_assets.settings.alerts import alert_faults
from qupersync_assets.settings.executor import ExecutorSettings, executor_faults
from qupersync_assets.settings.redshift import (
    OF_ONE_CLUSTER,
    REDSHIFT,
    Port,
    RedshiftSettings,
    Seconds,
    SettingsError,
    cluster_names,
    explain,
    is_secret,
)

__all__ = ["Settings", "SettingsError", "secrets"]

Filled = Annotated[str, Field(min_length=1)]


def _time_zone(name: str) -> str:
    if name not in available_timezones():
        raise ValueError("allowed is an IANA time zone such as US/Pacific, UTC or Europe/Berlin")
    return name


def _names(text: str) -> str:
    return ",".join(cluster_names(text))


def _url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or re.search(r"\s", url):
        raise ValueError("allowed is a URL such as https://dagster.example.com")
    return url


def _addresses(addresses: str) -> str:
    if not all(re.fullmatch(r"[^@\s]+@[^@\s]+", address.strip()) for address in addresses.split(",")):
        raise ValueError("allowed are addresses such as me@example.com")
    return addresses


def _owner(name: str) -> str:
    # https://docs.dagster.io/guides/build/assets/metadata-and-tags: what Dagster takes for an owner.
    if not re.fullmatch(r"team:.+|[\w.%+-]+@[A-Za-z0-9.-]+\.[A-Za-z]{2,7}", name, re.ASCII):
        raise ValueError("allowed is an e-mail address, or team: and a name")
    return name


def _web_address(url: str) -> str:
    if not re.fullmatch(r"https?://[^\s/]+/\S+", url):
        raise ValueError("allowed is a web address such as https://github.com/OWNER/NAME/tree/main")
    return url


class Settings(BaseSettings, RedshiftSettings, ExecutorSettings):
    """Every setting of QuperSync, under the name of its environment variable in lower case."""

    model_config = SettingsConfigDict(
        frozen=True, extra="ignore", env_ignore_empty=True, hide_input_in_errors=True
    )

    sync_interval: Annotated[int, Field(ge=10, le=31 * 86400)] = Field(
        300, description="Seconds between two syncs, 10 or more."
    )
    sync_batch_size: Annotated[int, Field(ge=1, le=100_000)] = Field(
        1000, description="Rows read from Redshift at a time, and written in one transaction."
    )
    sync_lookback: Annotated[int, Field(ge=0, le=7 * 86400)] = Field(
        3600, description="Seconds before the newest known row that are read again, as Redshift logs late."
    )
    sync_include_self: bool = Field(
        False, description="Whether query_history has QuperSync's own queries too."
    )
    sync_timezone: Annotated[str, AfterValidator(_time_zone)] = Field(
        "US/Pacific", description="Time zone of the schedule (data are always UTC)."
    )
    sync_misfire_grace: Annotated[int, Field(ge=1)] = Field(
        60, description="Seconds that a tick may come late; a later one is skipped."
    )
    sync_max_skipped_ratio: Annotated[float, Field(ge=0, le=1)] = Field(
        0.05, description="Share of skipped rows above which the check no_skipped_rows is an error."
    )
    sync_max_retries: Annotated[int, Field(ge=0, le=20)] = Field(
        3, description="How often a sync job is tried again after a transient failure."
    )
    sync_retry_delay: Annotated[float, Field(ge=0, le=3600)] = Field(
        5, description="Seconds before the first of these retries; each further one waits twice as long."
    )
    sync_max_runtime: Annotated[int, Field(ge=60)] = Field(
        3600,
        description="Seconds after which Dagster ends a run; with celery at least twice CELERY_STEP_TIMEOUT.",
    )
    quper_retention_days: Annotated[int, Field(ge=8)] | None = Field(
        None,
        description="Days that rows of the history tables are kept, 8 or more, as Redshift holds 7; "
        "all are kept if it is not set.",
    )
    sync_log_retention_days: Annotated[int, Field(ge=1)] = Field(
        90, description="Days that rows of quper.sync_logs and quper.skipped_rows are kept."
    )
    dagster_run_retention_days: Annotated[int, Field(ge=1)] = Field(
        14, description="Days that Dagster's runs and their events are kept; the last 100 always are."
    )
    sync_auto_migrate: bool = Field(
        True, description="Whether a sync brings the schema quper up to date; else `qupersync migrate` does."
    )
    sync_query_text: Literal["full", "redacted", "none"] = Field(
        "full", description="Texts of statements: full, redacted (literals become ?) or none (NULL)."
    )
    cluster_name: Filled = Field(
        "default", description="Name of the Redshift cluster; the first column of every key."
    )
    clusters: Annotated[str, AfterValidator(_names)] | None = Field(
        None,
        description="Names of several clusters, with commas, each with variables REDSHIFT_<NAME>_*: see the "
        "README.",
    )

    postgres_host: Filled = Field(description="Host of the target PostgreSQL.")
    postgres_port: Port = Field(5432, description="Its port.")
    postgres_database: Filled = Field(description="Database that holds the schema quper.")
    postgres_user: Filled = Field(description="User to connect as.")
    postgres_password: SecretStr | None = Field(None, description="Password of that user. A secret.")
    postgres_sslmode: Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"] = Field(
        "prefer", description="TLS towards PostgreSQL, as libpq's sslmode."
    )
    postgres_connect_timeout: Seconds = Field(10, description="Seconds to wait for a connection.")
    postgres_statement_timeout: Seconds = Field(120, description="Seconds that one statement may take.")

    asset_owner: Annotated[str, AfterValidator(_owner)] = Field(
        "team:data-platform",
        description="Who looks after the assets: an e-mail address, or team: and a name.",
    )
    code_url: Annotated[str, AfterValidator(_web_address)] | None = Field(
        None,
        description="Web address of the branch that this code is of; assets link to it, else to their files.",
    )
    ui_host: Filled = Field("127.0.0.1", description="Address that the Dagster UI listens on.")
    ui_port: Port = Field(3000, description="Port of the Dagster UI.")
    metrics_host: Filled = Field("127.0.0.1", description="Address that `qupersync metrics` listens on.")
    metrics_port: Port = Field(9464, description="Port of `qupersync metrics`.")

    # Which of them are needed depends on the channel: `alert_faults`.
    ui_url: Annotated[str, AfterValidator(_url)] | None = Field(
        None, description="URL of the Dagster UI, to which alerts link."
    )
    alert_slack_token: SecretStr | None = Field(
        None, description="Slack: bot token of an app with the scope chat:write. A secret."
    )
    alert_slack_channel: str | None = Field(None, description="Slack: name or id of the channel.")
    alert_slack_url: Annotated[str, AfterValidator(_url)] = Field(
        "https://slack.com/api/", description="Slack: base URL of its API."
    )
    alert_smtp_host: str | None = Field(None, description="E-mail: the SMTP server.")
    alert_smtp_port: Port | None = Field(
        None, description="E-mail: its port; by default 587 with starttls, 465 with ssl, 25 with none."
    )
    alert_smtp_security: Literal["starttls", "ssl", "none"] = Field(
        "starttls", description="E-mail: TLS towards that server, whose certificate is verified."
    )
    alert_smtp_user: str | None = Field(None, description="E-mail: user to log in as; no login without.")
    alert_smtp_password: SecretStr | None = Field(
        None, description="E-mail: password of that user. A secret."
    )
    alert_email_from: Annotated[str, AfterValidator(_addresses)] | None = Field(
        None, description="E-mail: address of the sender."
    )
    alert_email_to: Annotated[str, AfterValidator(_addresses)] | None = Field(
        None, description="E-mail: addresses, with commas in between."
    )

    _clusters: dict[str, RedshiftSettings] = PrivateAttr(default_factory=dict)

    @classmethod
    def load(cls) -> Settings:
        """The settings of the process's environment.

        Raises:
            SettingsError: with one line for each variable that is missing or not allowed.
        """
        lines: list[str] = []
        clusters: dict[str, RedshiftSettings] = {}
        environment = {name.lower(): value for name, value in os.environ.items() if value}
        try:
            settings = cls()  # type: ignore[call-arg]  # fields come from the environment
        except ValidationError as error:
            lines += explain(cls, error)
        with contextlib.suppress(ValueError):  # told above
            for name in cluster_names(environment["clusters"]) if "clusters" in environment else ():
                try:
                    clusters[name] = RedshiftSettings.of_cluster(name, environment)
                except SettingsError as error:
                    lines += error.lines
        if lines:
            raise SettingsError(list(dict.fromkeys(lines)))
        settings._clusters = clusters
        return settings

    @classmethod
    def _faults(cls, values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        yield from executor_faults(values)
        yield from alert_faults(values)
        given = {field for field, value in values.items() if value not in (None, "")}
        if "clusters" not in given:
            yield from super()._faults(values)
            return
        if "cluster_name" in given:
            yield "cluster_name", "allowed is this or CLUSTERS, not both"
        for field in sorted(given & OF_ONE_CLUSTER):
            own = field.upper().replace(REDSHIFT, f"{REDSHIFT}_<NAME>")
            yield field, f"with CLUSTERS each cluster has its own, {own}"

    def by_cluster(self) -> dict[str, RedshiftSettings]:
        """The settings of each cluster's source, by its name: of one, or of those of CLUSTERS."""
        return self._clusters or {self.cluster_name: self}

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
        """The time zone of the schedule."""
        return ZoneInfo(self.sync_timezone)

    def environment(self) -> dict[str, str]:
        """Every setting as an environment variable, defaults included; secrets in clear."""
        of_one = {"cluster_name"} if self._clusters else set()
        texts = {k.upper(): v for k, v in _texts(self).items() if k not in of_one}
        for source in self._clusters.values():
            texts |= {source.variable(field): text for field, text in _texts(source).items()}
        return texts


def _texts(settings: BaseModel) -> dict[str, str]:
    """The values that are set, as the environment holds them, by field."""
    values = {
        k: v.get_secret_value() if isinstance(v, SecretStr) else v for k, v in settings if v is not None
    }
    return {k: str(v).lower() if isinstance(v, bool) else str(v) for k, v in values.items()}


def secrets() -> frozenset[str]:
    """The fields that hold secrets."""
    return frozenset(name for name in Settings.model_fields if is_secret(Settings, name))
