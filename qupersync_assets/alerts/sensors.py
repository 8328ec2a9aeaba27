"""One sensor per URL of ALERT_URLS, each with its own cursor: no service waits for another."""

from collections.abc import Callable, Sequence
from functools import partial

import dagster as dg
from pydantic import BaseModel

from qupersync_assets.alerts.apprise_notifier import Alert, AlertError, send_alert
from qupersync_assets.alerts.evaluator import evaluate
from qupersync_assets.alerts.open_problems import OpenProblem, OpenProblems
from qupersync_assets.core.redaction import redact, redact_exceptions
from qupersync_assets.defs.names import STANDALONE, Placement
from qupersync_assets.defs.own_runs import is_own
from qupersync_assets.settings import Settings
from qupersync_assets.settings.alerts import AlertUrl, parse_alert_urls
from qupersync_assets.spec import SyncSpec

SENSOR_SECONDS = 30
RUNS_PER_POLL = 50


class AlertCursor(BaseModel):
    """The cursor of a sensor."""

    after: int | None = None  # storage id of the last evaluated run-status event; None before the first poll
    problems: dict[str, OpenProblem] = {}  # those that were reported and are not over
    unsent: list[Alert] = []  # of the last evaluated run


def build_alerts(
    specs: Sequence[SyncSpec], settings: Settings, placement: Placement = STANDALONE
) -> list[dg.SensorDefinition]:
    """Build a sensor for each URL of ALERT_URLS."""
    return [_build_sensor(url, specs, settings, placement) for url in parse_alert_urls(settings.alert_urls)]


def _build_sensor(
    url: AlertUrl, specs: Sequence[SyncSpec], settings: Settings, placement: Placement
) -> dg.SensorDefinition:
    # The URL is no configuration of a resource: it stays in the environment of the code location.
    @dg.sensor(
        name=f"{placement.name}_alerts_{url.number}_{url.schema}",
        minimum_interval_seconds=SENSOR_SECONDS,
        default_status=placement.sensor_status,
        description=f"Sends an alert for each cause of failed runs and checks to {url} of ALERT_URLS, and one when "
        "it is over.",
    )
    def alerts(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        cursor = AlertCursor.model_validate_json(context.cursor) if context.cursor else AlertCursor()
        with redact_exceptions():
            evaluate_run = partial(evaluate, context.instance, specs, settings, placement=placement)
            owns = partial(is_own, specs=specs, settings=settings, placement=placement)
            return poll(context.instance, url, cursor, evaluate_run, owns)

    return alerts


def poll(
    instance: dg.DagsterInstance,
    url: AlertUrl,
    cursor: AlertCursor,
    evaluate_run: Callable[[dg.DagsterRun, OpenProblems], list[Alert]],
    owns: Callable[[dg.DagsterRun], bool],
) -> dg.SensorResult:
    """Send alerts for the runs that ended since the last poll.

    An alert that could not be sent is tried again at the next poll, before all later ones. If none could be
    sent, the error is raised, so that the tick fails.
    """
    if cursor.after is None:
        # Failures before the first poll are not reported.
        cursor.after = max((storage_id for storage_id, _ in _ended_runs(instance, None)), default=0)
        return dg.SensorResult(skip_reason="Evaluates runs from now on.", cursor=cursor.model_dump_json())
    sent = 0
    notes: list[str] = []

    def deliver() -> None:
        nonlocal sent
        while cursor.unsent:
            if note := send_alert(url, cursor.unsent[0]):
                notes.append(note)
            del cursor.unsent[0]
            sent += 1

    try:
        deliver()
        for storage_id, run_id in _ended_runs(instance, cursor.after):
            run = instance.get_run_by_id(run_id)
            if run is not None and owns(run):
                cursor.unsent = evaluate_run(run, cursor.problems)
            cursor.after = storage_id
            deliver()
    except AlertError as error:
        if not sent:
            raise
        notes.append(f"The next one is tried again: {redact(str(error))}")
    summary = " ".join([f"{sent} alerts sent.", *notes])
    return dg.SensorResult(skip_reason=summary, cursor=cursor.model_dump_json())


def _ended_runs(instance: dg.DagsterInstance, after: int | None) -> list[tuple[int, str]]:
    """Return (storage id, run id) of the next runs that succeeded or failed, in their order; without `after`
    the last one of each."""
    found: list[tuple[int, str]] = []
    horizon = None
    for kind in (dg.DagsterEventType.RUN_SUCCESS, dg.DagsterEventType.RUN_FAILURE):
        records = instance.fetch_run_status_changes(
            dg.RunStatusChangeRecordsFilter(kind, after_storage_id=after),
            limit=RUNS_PER_POLL if after is not None else 1,
            ascending=after is not None,
        ).records
        found += [(record.storage_id, record.run_id) for record in records]
        if after is not None and len(records) == RUNS_PER_POLL:
            # More of this kind may follow: evaluate none of the other kind that is later than these.
            horizon = min(horizon or records[-1].storage_id, records[-1].storage_id)
    return sorted(entry for entry in found if horizon is None or entry[0] <= horizon)
