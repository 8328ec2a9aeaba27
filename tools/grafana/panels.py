"""Parts of Grafana dashboards on PostgreSQL: variables, panels and links, built with Grafana's Foundation SDK.

https://grafana.com/docs/grafana/latest/datasources/postgres/ has the macros of the statements.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from grafana_foundation_sdk.builders import common as commons
from grafana_foundation_sdk.builders import dashboard as dashboards
from grafana_foundation_sdk.builders import stat, table, timeseries
from grafana_foundation_sdk.cog import builder as cogbuilder
from grafana_foundation_sdk.cog import variants
from grafana_foundation_sdk.models import common, dashboard

SOURCE = dashboard.DataSourceRef(type_val="grafana-postgresql-datasource", uid="${datasource}")
# The value of a variable for all its values, as it is in a statement.
ALL = "'*'"
WIDTH = 24
_SEVERITIES = {"critical": "red", "warning": "orange", "info": "blue"}
Panel = timeseries.Panel | table.Panel | stat.Panel


@dataclass
class SqlQuery(variants.Dataquery):
    """A statement of a panel; the SDK has no type of its own for PostgreSQL."""

    sql: str
    format: str

    def to_json(self) -> dict[str, object]:
        """Return the query as Grafana stores it."""
        return {
            "refId": "A",
            "datasource": SOURCE,
            "editorMode": "code",
            "format": self.format,
            "rawQuery": True,
            "rawSql": self.sql,
        }


class _Query(cogbuilder.Builder[variants.Dataquery]):
    def __init__(self, sql: str, format_: str) -> None:
        self._query = SqlQuery(sql.strip(), format_)

    def build(self) -> variants.Dataquery:
        return self._query


def chosen(column: str, variable: str) -> str:
    """Return the condition that a column has one of the chosen values of a variable, or that all are chosen."""
    return f"({ALL} IN (${{{variable}:sqlstring}}) OR {column} IN (${{{variable}:sqlstring}}))"


def source_variable() -> dashboards.DatasourceVariable:
    """Build the choice of the data source."""
    return dashboards.DatasourceVariable("datasource").label("PostgreSQL").type(str(SOURCE.type_val))


def query_variable(name: str, label: str, sql: str, *, several: bool = False) -> dashboards.QueryVariable:
    """Build a choice among the values that a statement returns."""
    built = dashboards.QueryVariable(name).label(label).datasource(SOURCE).query(sql)
    built = built.refresh(dashboard.VariableRefresh.ON_TIME_RANGE_CHANGED)
    if not several:
        return built
    everything = dashboard.VariableOption(selected=True, text="All", value="$__all")
    return built.multi(True).include_all(True).all_value(ALL).current(everything)


def text_variable(name: str, label: str) -> dashboards.TextBoxVariable:
    """Build a field for any text."""
    return dashboards.TextBoxVariable(name).label(label).default_value("")


def link(title: str, board: str, **variables: str) -> dashboards.DashboardLink:
    """Build the link of a row to another dashboard; `variables` are set to columns of the row."""
    values = "".join(f"&var-{name}=${{__data.fields.{column}:percentencode}}" for name, column in variables.items())
    address = f"/d/{board}?${{datasource:queryparam}}&${{cluster:queryparam}}{values}&${{__url_time_range}}"
    return dashboards.DashboardLink(title).url(address)


def series(
    title: str, text: str, sql: str, unit: str, *, stacked: bool = False, per: str = "", width: int = 12
) -> timeseries.Panel:
    """Build a panel of values over time: bars that are stacked, or lines; `per` is the shortest interval."""
    panel = timeseries.Panel().with_target(_Query(sql, "time_series")).unit(unit)
    panel = panel.legend(
        commons.VizLegendOptions()
        .show_legend(True)
        .display_mode(common.LegendDisplayMode.LIST)
        .placement(common.LegendPlacement.BOTTOM)
    )
    panel = panel.tooltip(commons.VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI))
    if stacked:
        stacking = commons.StackingConfig().mode(common.StackingMode.NORMAL)
        panel = panel.draw_style(common.GraphDrawStyle.BARS).fill_opacity(80).line_width(0).stacking(stacking)
    else:
        panel = panel.line_width(2).show_points(common.VisibilityMode.AUTO).span_nulls(True)
    if per:
        panel = panel.interval(per)
    return panel.title(title).description(text).datasource(SOURCE).span(width).height(8)


def rows(
    title: str,
    text: str,
    sql: str,
    *,
    units: dict[str, str] | None = None,
    links: dict[str, list[dashboards.DashboardLink]] | None = None,
    hidden: tuple[str, ...] = (),
    widths: dict[str, int] | None = None,
    width: int = WIDTH,
    height: int = 9,
) -> table.Panel:
    """Build a panel with a table; `units`, `links`, `widths` and `hidden` are of columns."""
    panel = table.Panel().with_target(_Query(sql, "table")).title(title).description(text).datasource(SOURCE)
    panel = panel.show_header(True)  # without an option the board has null instead of options
    changes: dict[str, list[dashboard.DynamicConfigValue]] = {}

    def change(column: str, id_: str, value: object) -> None:
        changes.setdefault(column, []).append(dashboard.DynamicConfigValue(id_val=id_, value=value))

    for column, unit in (units or {}).items():
        change(column, "unit", unit)
    for column, targets in (links or {}).items():
        change(column, "links", [target.build() for target in targets])
    for column, pixels in (widths or {}).items():
        change(column, "custom.width", pixels)
    for column in hidden:
        change(column, "custom.hidden", True)
    if "AS severity" in sql or " severity," in sql:
        change("severity", "mappings", [_severity_colors()])
        change("severity", "custom.cellOptions", {"type": "color-text"})
    for column, values in changes.items():
        panel = panel.override_by_name(column, values)
    return panel.span(width).height(height)


def numbers(title: str, text: str, sql: str, *, unit: str = "short", width: int = 6) -> stat.Panel:
    """Build a panel with one number for each column of the only row."""
    panel = stat.Panel().with_target(_Query(sql, "table")).title(title).description(text).datasource(SOURCE)
    for severity, color in _SEVERITIES.items():
        fixed = {"mode": "fixed", "fixedColor": color}
        panel = panel.override_by_name(severity, [dashboard.DynamicConfigValue(id_val="color", value=fixed)])
    reduced = commons.ReduceDataOptions().calcs(["lastNotNull"]).fields("/.*/").values(False)
    return panel.reduce_options(reduced).unit(unit).span(width).height(5)


def _severity_colors() -> dict[str, object]:
    options = {name: {"color": color, "index": place} for place, (name, color) in enumerate(_SEVERITIES.items())}
    return {"type": "value", "options": options}


def board(
    uid: str,
    title: str,
    text: str,
    variables: list[cogbuilder.Builder[dashboard.VariableModel]],
    sections: Mapping[str, Sequence[Panel]],
) -> dashboard.Dashboard:
    """Build a dashboard of sections, each with a heading."""
    built = dashboards.Dashboard(title).uid(uid).description(text).tags(["qupersync", "redshift"]).timezone("utc")
    built = built.time("now-7d", "now").variables([source_variable(), *variables]).editable()
    tagged = dashboards.DashboardLink("Redshift boards").type(dashboard.DashboardLinkType.DASHBOARDS)
    built = built.link(tagged.tags(["redshift"]).as_dropdown(True).include_vars(True).keep_time(True))
    number = 0
    for heading, panels in sections.items():
        number += 1
        built = built.with_row(dashboards.Row(heading).id(number))
        for panel in panels:
            number += 1
            built = built.with_panel(panel.id(number))
    return built.build()
