"""The sensors that look at ended runs, one a channel, each with its own memory: no channel waits for
another."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from typing import Any

import dagster as dg
from pydantic import BaseModel

from qupersync_assets.alerts.notifiers import Alert, EmailNotifier, Notifier, SlackNotifier
from qupersync_assets.core.redaction import redact, redact_exceptions
from qupersync_assets.defs.names import ASSET_JOB, asset_key
from qupersync_assets.defs.partitions import cluster_of_run
from qupersync_assets.defs.run_health import failed_jobs, reason
from qupersync_assets.settings import Settings, SettingsError
from qupersync_assets.settings.alerts import CHANNELS
from qupersync_assets.spec import SyncSpec

SENSOR_SECONDS = 30
RUNS_A_LOOK = 50


class AlertCursor(BaseModel):
    """The cursor of a sensor.

    Attributes:
        after: storage id of the last run-status event that was looked at; None before the first look.
        told: faults that go on: they are not told again before they were seen to be gone.
    """

    after: int | None = None
    told: list[str] = []


def build_alerts(
    specs: Sequence[SyncSpec], settings: Settings
) -> tuple[list[dg.SensorDefinition], dict[str, Any]]:
    """A sensor and a resource for each channel whose settings are there; none otherwise.

    Raises:
        SettingsError: Slack is wanted, and dagster-slack is not installed.
    """
    resources: dict[str, Any] = {}
    if settings.alert_slack_token:
        if find_spec("dagster_slack") is None:
            raise SettingsError(["  ALERT_SLACK_TOKEN needs: pip install 'qupersync[alerts]'"])
        token: Any = dg.EnvVar("ALERT_SLACK_TOKEN")
        resources["slack"] = SlackNotifier(
            token=token,
            channel=settings.alert_slack_channel or "",
            url=settings.alert_slack_url,
        )
    if settings.alert_smtp_host:
        password: Any = dg.EnvVar("ALERT_SMTP_PASSWORD") if settings.alert_smtp_password else None
        resources["email"] = EmailNotifier(
            host=settings.alert_smtp_host,
            port=settings.alert_smtp_port,
            security=settings.alert_smtp_security,
            user=settings.alert_smtp_user,
            password=password,
            sender=settings.alert_email_from or "",
            recipients=[a.strip() for a in (settings.alert_email_to or "").split(",")],
        )
    sensors = [_sensor(channel, specs, settings) for channel in CHANNELS if channel in resources]
    return sensors, {f"alerts_{channel}": resource for channel, resource in resources.items()}


def _sensor(channel: str, specs: Sequence[SyncSpec], settings: Settings) -> dg.SensorDefinition:
    key = f"alerts_{channel}"

    @dg.sensor(
        name=f"qupersync_{key}",
        minimum_interval_seconds=SENSOR_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        required_resource_keys={key},
        description=f"Tells of runs and checks that fail ({channel}); of what goes on failing only once.",
    )
    def alerts(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        def is_ours(run: dg.DagsterRun) -> bool:
            if run.job_name == ASSET_JOB:
                return bool((run.asset_selection or set()) & {asset_key(spec) for spec in specs})
            return context.repository_def is not None and context.repository_def.has_job(run.job_name)

        memory = AlertCursor.model_validate_json(context.cursor) if context.cursor else AlertCursor()
        with redact_exceptions():
            judge = AlertEvaluator(context.instance, specs, settings)
            return look(context.instance, getattr(context.resources, key), memory, judge, is_ours)

    return alerts


def look(
    instance: dg.DagsterInstance,
    notifier: Notifier,
    memory: AlertCursor,
    judge: AlertEvaluator,
    is_ours: Callable[[dg.DagsterRun], bool],
) -> dg.SensorResult:
    """Tell of the runs that ended since the last look.

    What cannot be sent is tried again at the next look, from there on; if nothing could be sent, the error is
    raised, and the tick fails for all to see.
    """
    if memory.after is None:
        # What failed before the first look is not news.
        memory.after = max((storage_id for storage_id, _ in _ended(instance, None)), default=0)
        return dg.SensorResult(skip_reason="Looks at runs from now on.", cursor=memory.model_dump_json())
    sent = 0
    failed = ""
    for storage_id, run_id in _ended(instance, memory.after):
        run = instance.get_run_by_id(run_id)
        if run is not None and is_ours(run):
            alert, told = judge(run, set(memory.told))
            if alert is not None:
                try:
                    notifier.send(alert)
                except Exception as error:
                    if not sent:
                        raise
                    failed = f" The next one is tried again: {redact(str(error))}"
                    break
                sent += 1
            memory.told = sorted(told)
        memory.after = storage_id
    return dg.SensorResult(skip_reason=f"{sent} alerts sent.{failed}", cursor=memory.model_dump_json())


def _ended(instance: dg.DagsterInstance, after: int | None) -> list[tuple[int, str]]:
    """(storage id, run id) of the next runs that succeeded or failed, in their order; the last one of each
    without `after`."""
    found: list[tuple[int, str]] = []
    horizon = None
    for kind in (dg.DagsterEventType.RUN_SUCCESS, dg.DagsterEventType.RUN_FAILURE):
        records = instance.fetch_run_status_changes(
            dg.RunStatusChangeRecordsFilter(kind, after_storage_id=after),
            limit=RUNS_A_LOOK if after is not None else 1,
            ascending=after is not None,
        ).records
        found += [(record.storage_id, record.run_id) for record in records]
        if after is not None and len(records) == RUNS_A_LOOK:
            # There may be more of this kind behind its last one: nothing of the other kind may overtake them.
            horizon = min(horizon or records[-1].storage_id, records[-1].storage_id)
    return sorted(entry for entry in found if horizon is None or entry[0] <= horizon)


class AlertEvaluator:
    """Whether there is something to tell of an ended run."""

    def __init__(self, instance: dg.DagsterInstance, specs: Sequence[SyncSpec], settings: Settings) -> None:
        self._instance = instance
        self._specs = specs
        self._settings = settings
        self._jobs = {asset_key(spec): spec.sync_job_id for spec in specs}

    def __call__(self, run: dg.DagsterRun, told: set[str]) -> tuple[Alert | None, set[str]]:
        """The alert, None if nothing failed that has not been told, and the faults that go on."""
        cluster = cluster_of_run(run, list(self._settings.by_cluster()))
        failures = dict(self._failures(run))
        done, checks = self._done(run)
        faults = {f"{cluster} {job}": f"{job}: {why}" for job, why in failures.items()}
        healed = {f"{cluster} {job}" for job in done - failures.keys()}
        if run.is_success:
            healed.add(f"{cluster} {run.job_name}")
        for name, text in checks.items():
            if text is None:
                healed.add(f"{cluster} {name}")
            else:
                faults[f"{cluster} {name}"] = f"{name}: {text}"
        still = (told - healed) | faults.keys()
        if not faults.keys() - told:
            return None, still
        failing = sum(text is not None for text in checks.values())
        counts = ((len(failures), "job"), (failing, "check"))
        what = " and ".join(f"{count} {name}{'s' if count > 1 else ''}" for count, name in counts if count)
        base = self._settings.ui_url
        alert = Alert(
            redact(f"QuperSync{f', cluster {cluster}' if cluster else ''}: {what} failed"),
            [
                *(redact(" ".join(line.split())) for line in faults.values()),
                f"Run {run.run_id} of {run.job_name}. What goes on failing is told once, until it was well.",
            ],
            f"{base.rstrip('/')}/runs/{run.run_id}" if base else None,
        )
        return alert, still

    def _failures(self, run: dg.DagsterRun) -> Iterator[tuple[str, str]]:
        """The jobs that the run was to do and did not, and why; of a run without sync jobs its own name."""
        if run.is_success:
            return
        jobs = failed_jobs(self._instance, run, self._specs)
        yield from jobs.items()
        if not jobs:
            errors = [
                reason(event.step_failure_data.error)
                for entry in self._instance.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_FAILURE)
                if (event := entry.dagster_event) and event.step_failure_data.error
            ]
            yield run.job_name, errors[0] if errors else "the run broke off"

    def _done(self, run: dg.DagsterRun) -> tuple[set[str], dict[str, str | None]]:
        """The jobs that the run did; and its checks, None for those that passed."""
        done: set[str] = set()
        checks: dict[str, str | None] = {}
        kinds = {dg.DagsterEventType.ASSET_MATERIALIZATION, dg.DagsterEventType.ASSET_CHECK_EVALUATION}
        for entry in self._instance.all_logs(run.run_id, of_type=kinds):
            event = entry.dagster_event
            if event is None:
                continue
            if event.event_type == dg.DagsterEventType.ASSET_MATERIALIZATION:
                if event.asset_key in self._jobs:
                    done.add(self._jobs[event.asset_key])
                continue
            evaluation = event.asset_check_evaluation_data
            job = self._jobs.get(evaluation.asset_key)
            if job is not None:
                kind = "warning" if evaluation.severity is dg.AssetCheckSeverity.WARN else "error"
                text = f"{kind}, {evaluation.description or 'without a reason'}"
                checks[f"{job}, check {evaluation.check_name}"] = None if evaluation.passed else text
        return done, checks
