"""One sensor per URL of ALERT_URLS that sends new findings about the health of clusters, together in one message."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import dagster as dg
import sqlalchemy as sa

from qupersync_assets.alerts.apprise_notifier import Alert, send_alert
from qupersync_assets.core.redaction import redact, redact_exceptions
from qupersync_assets.defs.names import POSTGRES_KEY, STANDALONE, Placement
from qupersync_assets.health.signal import Severity
from qupersync_assets.postgres.resource import PostgresResource
from qupersync_assets.postgres.schema import ensure_schema
from qupersync_assets.settings import Settings
from qupersync_assets.settings.alerts import AlertUrl, parse_alert_urls

SENSOR_SECONDS = 60
# Findings with their remedy; the others are counted.
SHOWN = 10

_EVALUATED = "SELECT cluster, evaluated_at FROM quper.health_evaluations WHERE cluster = ANY (:clusters)"
_NEW = """
SELECT cluster, severity, title, object, value, unit, remedy FROM quper.health_open
WHERE cluster = :cluster AND since > :after AND since <= :until AND severity = ANY (:severities)
ORDER BY severity_rank, priority DESC, object"""


def build_digests(settings: Settings, placement: Placement = STANDALONE) -> list[dg.SensorDefinition]:
    """Build a sensor for each URL of ALERT_URLS; none if HEALTH_ALERT_SEVERITY is off."""
    if settings.health_alert_severity == "off" or not settings.health_findings:
        return []
    every = list(Severity)
    severities = every[: every.index(Severity(settings.health_alert_severity)) + 1]
    clusters, urls = list(settings.by_cluster()), parse_alert_urls(settings.alert_urls)
    return [_build_sensor(url, clusters, severities, settings.ui_url, placement) for url in urls]


def _build_sensor(
    url: AlertUrl, clusters: Sequence[str], severities: Sequence[Severity], ui_url: str | None, placement: Placement
) -> dg.SensorDefinition:
    postgres_key = placement.resource(POSTGRES_KEY)

    @dg.sensor(
        name=f"{placement.name}_health_alerts_{url.number}_{url.schema}",
        minimum_interval_seconds=SENSOR_SECONDS,
        default_status=placement.sensor_status,
        required_resource_keys={postgres_key},
        description=f"Sends new findings that are {' or '.join(severities)} to {url} of ALERT_URLS.",
    )
    def health_alerts(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        postgres: PostgresResource = getattr(context.resources, postgres_key)
        with redact_exceptions():
            after = _parse(context.cursor)
            found, until = new_findings(postgres, clusters, severities, after)
            if found:
                send_alert(url, digest(found, ui_url, placement))  # an error keeps the cursor: the next tick sends them
        cursor = ",".join(f"{time.isoformat()} {cluster}" for cluster, time in until.items())
        return dg.SensorResult(skip_reason=f"{len(found)} new findings.", cursor=cursor)

    return health_alerts


def _parse(cursor: str | None) -> dict[str, datetime]:
    """Return the evaluation until which the findings of each cluster were reported."""
    pairs = (entry.split(" ", 1) for entry in (cursor or "").split(",") if entry)
    return {cluster: datetime.fromisoformat(time) for time, cluster in pairs}


def new_findings(
    postgres: PostgresResource, clusters: Sequence[str], severities: Sequence[str], after: Mapping[str, datetime]
) -> tuple[list[dict[str, Any]], dict[str, datetime]]:
    """Return the findings that were opened after these evaluations, and the newest evaluation of each cluster.

    Findings of the first evaluation of a cluster, and those before the first poll, are not new.

    Raises:
        SyncError: PostgreSQL cannot be reached, or its schema cannot be migrated.
    """
    ensure_schema(postgres)  # this may be the first use of the target
    found: list[dict[str, Any]] = []
    with postgres.transaction() as connection:
        rows = connection.execute(sa.text(_EVALUATED), {"clusters": list(clusters)})
        until = {row.cluster: row.evaluated_at for row in rows}
        for cluster in (name for name in until if name in after):
            parameters = {"cluster": cluster, "after": after[cluster], "until": until[cluster]}
            new = connection.execute(sa.text(_NEW), parameters | {"severities": list(severities)})
            found += [dict(row) for row in new.mappings()]
    return sorted(found, key=lambda row: list(Severity).index(row["severity"])), until


def digest(findings: Sequence[Mapping[str, Any]], ui_url: str | None, placement: Placement = STANDALONE) -> Alert:
    """Return one message about new findings, the worst first."""
    counts = Counter(row["severity"] for row in findings)
    numbers = ", ".join(f"{counts[severity]} {severity}" for severity in Severity if counts[severity])
    clusters = ", ".join(sorted({row["cluster"] for row in findings}))
    path = "/".join(placement.health_key.path)
    lines = [f"Details: {ui_url.rstrip('/')}/assets/{path}"] if ui_url else ["Details: qupersync health"]
    for row in findings[:SHOWN]:
        value = f": {row['value'].normalize():,f} {row['unit'] or ''}".rstrip() if row["value"] is not None else ""
        lines.append(f"{row['severity']}, {row['cluster']}: {row['title']}: {row['object']}{value}. {row['remedy']}")
    if len(findings) > SHOWN:
        lines.append(f"And {len(findings) - SHOWN} more.")
    lines.append("Each finding is reported only once, unless it returns after it was resolved.")
    body = "\n".join(redact(" ".join(line.split())) for line in lines)
    return Alert(redact(f"QuperSync, {clusters}: new findings: {numbers}"), body)
