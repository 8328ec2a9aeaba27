"""Renders the health of clusters as one HTML page that needs no other file and no network."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from string import Formatter
from typing import Any

import sqlalchemy as sa

from qupersync_assets.core.errors import ErrorClass, SyncError
from qupersync_assets.health import all_signals
from qupersync_assets.health.readers import open_findings
from qupersync_assets.health.report.plots import PLOTS, Plot
from qupersync_assets.postgres.health_tables import HEALTH_EVALUATIONS, HEALTH_SIGNALS
from qupersync_assets.postgres.resource import PostgresResource

# Findings with their remedy; further ones are in a table.
FIRST = 12
# Widths of plots in pixels: across the page, half of it, and on a phone.
WIDE, HALF, PHONE = 1000, 470, 330
_SEVERITIES = ("critical", "warning", "info")
# A page for people: each statement has to end.
_TIMEOUT = "SET LOCAL statement_timeout = '60s'"


def render(postgres: PostgresResource, clusters: Sequence[str]) -> str:
    """Return the page of one or several clusters.

    Raises:
        SyncError: PostgreSQL cannot be reached, or the extra `report` is not installed.
    """
    try:
        import jinja2
        import vl_convert  # noqa: F401 - it is loaded before the first statement
    except ModuleNotFoundError as error:
        raise SyncError(
            f"The page needs a library that is not installed, {error.name}: pip install 'qupersync[report]'",
            ErrorClass.FATAL,
        ) from error
    loader = jinja2.PackageLoader("qupersync_assets.health.report", ".")
    environment = jinja2.Environment(autoescape=True, loader=loader, undefined=jinja2.StrictUndefined)
    environment.filters |= {"shown": _shown, "link": _link}
    with postgres.transaction() as connection:
        connection.execute(sa.text(_TIMEOUT))
        now = connection.execute(sa.select(sa.func.now())).scalar_one()
        found = [_cluster(connection, cluster, now) for cluster in clusters]
    css, _, _ = loader.get_source(environment, "page.css")
    return environment.get_template("page.html.j2").render(clusters=found, css=_safe(css), now=now)


def _cluster(connection: sa.Connection, cluster: str, now: datetime) -> dict[str, Any]:
    findings = open_findings(connection, [cluster])
    signals = HEALTH_SIGNALS.c
    unchecked = connection.execute(
        sa.select(signals.title, signals.reason)
        .where(signals.cluster == cluster, signals.status != "evaluated")
        .order_by(signals.position)
    )
    known = connection.scalar(sa.select(sa.func.count()).where(signals.cluster == cluster)) or 0
    evaluations = HEALTH_EVALUATIONS.c
    reasons = [dict(row._mapping) for row in unchecked]
    return {
        "name": cluster,
        "evaluated_at": connection.scalar(sa.select(evaluations.evaluated_at).where(evaluations.cluster == cluster)),
        "counts": {name: sum(row["severity"] == name for row in findings) for name in _SEVERITIES},
        "signals": known,
        "checked": known - len(reasons),
        "first": [finding | {"threshold_unit": _threshold_unit(finding)} for finding in findings[:FIRST]],
        "others": findings[FIRST:],
        "unchecked": reasons,
        "plots": [_plot(plot, _rows(connection, plot.sql, cluster, now)) for plot in PLOTS],
    }


def _threshold_unit(finding: dict[str, Any]) -> str:
    signal = all_signals().get(finding["signal_id"])
    return signal.threshold_unit if signal else ""


def _rows(connection: sa.Connection, sql: str, cluster: str, now: datetime) -> list[dict[str, Any]]:
    return [dict(row) for row in connection.execute(sa.text(sql), {"cluster": cluster, "now": now}).mappings()]


def _plot(plot: Plot, rows: list[dict[str, Any]]) -> dict[str, Any]:
    from qupersync_assets.health.report.charts import draw, legend

    names = ("id", "name", "title", "text", "unit", "headings", "nothing", "is_wide")
    shown = {name: getattr(plot, name) for name in names} | {"rows": rows}
    if rows:
        last = {name: value for name, value in rows[-1].items() if value is not None}
        known = {field for _, field, *_ in Formatter().parse(plot.headline) if field} <= last.keys()
        shown |= {
            "headline": plot.headline.format(**last) if known else "",
            "legend": [name for name in legend(plot, rows) if name],
            "svg": _safe(draw(plot, rows, WIDE if plot.is_wide else HALF)),
            "phone_svg": _safe(draw(plot, rows, PHONE)),
        }
    return shown


def _safe(markup: str) -> Any:
    """Mark text that needs no escaping: our own, and SVG, whose texts Vega escapes."""
    from markupsafe import Markup

    return Markup(markup)  # noqa: S704


def _link(address: str) -> str:
    """Return an address only if a browser opens it as a page."""
    return address if address.startswith("https://") else "#"


def _shown(value: Any) -> str:
    """Return a value of PostgreSQL as it is shown: times in UTC, numbers with separators."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return f"{value.astimezone(UTC):%Y-%m-%d %H:%M}"
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Decimal):
        return f"{value:,f}".rstrip("0").rstrip(".") if "." in f"{value:f}" else f"{value:,f}"
    if isinstance(value, int | float):
        return f"{value:,}"
    return str(value)
