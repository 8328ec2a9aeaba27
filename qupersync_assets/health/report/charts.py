"""Draws the plots of the health page as SVG, with Vega-Lite.

Colours are CSS variables of the page, so that one picture is right in light and dark.
https://vega.github.io/vega-lite/docs/
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from qupersync_assets.health.report.plots import Plot

Row = Mapping[str, Any]

_VERSION = "5.21"
# Heights in pixels: of one bar, of the bars of one name beside each other, of a plot over time.
_BAR, _GROUP, _HEIGHT = 24, 38, 220
# Width of a character of a label. Vega measures texts with its own fonts, which may be narrower than the reader's.
_CHARACTER = 7.3
# Space at the end of the longest bar for its value.
_VALUE = 52
_INK, _GRID = "var(--ink-2)", "var(--line)"
_COLORS = [f"var(--c{number})" for number in range(1, 9)]
# Series beyond these are drawn together.
_MAX_SERIES = len(_COLORS)
_OTHERS = "others"

_CONFIG = {
    "font": "system-ui, sans-serif",
    "background": None,
    "aria": False,
    "view": {"stroke": None},
    "axis": {
        "labelColor": _INK,
        "gridColor": _GRID,
        "domainColor": _GRID,
        "tickColor": _GRID,
        "labelFontSize": 12,
        "title": None,
    },
    "text": {"fill": _INK, "fontSize": 12},
}


_BAR_MARK = {"type": "bar", "stroke": "var(--page)", "strokeWidth": 0.5}


def draw(plot: Plot, rows: Sequence[Row], width: int) -> str:
    """Return the SVG of a plot with at least one row, `width` pixels wide.

    Raises:
        ModuleNotFoundError: the extra `report` is not installed.
    """
    import vl_convert

    points, names = _points(plot, rows), legend(plot, rows)
    for point in points:
        point["rank"] = names.index(point["series"])
    chart = {"columns": _columns, "lines": _lines}.get(plot.kind, _bars)(plot, points, names, width)
    spec = {
        "$schema": "https://vega.github.io/schema/vega-lite/v5.json",
        "config": _CONFIG,
        "data": {"values": points},
        "width": width,
        "padding": {"left": 2, "top": 6, "bottom": 4, "right": _VALUE if plot.kind == "bars" else 14},
        "autosize": {"type": "fit-x", "contains": "padding"},
        **chart,
    }
    # Data are in the specification; nothing is loaded.
    svg = vl_convert.vegalite_to_svg(spec, vl_version=_VERSION, allowed_base_urls=[])
    # It scales down with the page; a name of a font with quotation marks would end the attribute.
    return re.sub(r'(<svg[^>]*?) width="(\d+)" height="\d+"', r'\1 style="max-width:\2px"', svg, count=1)


def legend(plot: Plot, rows: Sequence[Row]) -> list[str]:
    """Return the names of the series in the order of the colours --c1, --c2, ... of the page."""
    return list(dict.fromkeys(point["series"] for point in _points(plot, rows)))


def _points(plot: Plot, rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return a point for each drawn value: x, series, value, is_forecast, and the place of x."""
    places = {x: place for place, x in enumerate(dict.fromkeys(row[plot.x] for row in rows))}
    points = [
        {
            "x": _plain(row[plot.x]),
            "place": places[row[plot.x]],
            "series": str(row[plot.series]) if plot.series else name,
            "value": _plain(row[column]),
            "is_forecast": bool(row.get("is_forecast")),
        }
        for row in rows
        for column, name in plot.values.items()
        if row[column] is not None
    ]
    return _with_few_series(points) if plot.series else points


def _with_few_series(points: list[dict[str, Any]]) -> list[dict[str, Any]]:
    totals: dict[str, float] = {}
    for point in points:
        totals[point["series"]] = totals.get(point["series"], 0) + point["value"]
    largest = sorted(totals, key=lambda name: -totals[name])
    shown = largest if len(largest) <= _MAX_SERIES else largest[: _MAX_SERIES - 1]
    named = [point if point["series"] in shown else point | {"series": _OTHERS} for point in points]
    return sorted(named, key=lambda point: [*shown, _OTHERS].index(point["series"]))


def _plain(value: Any) -> Any:
    if isinstance(value, datetime | date):
        return value.isoformat()
    return float(value) if isinstance(value, Decimal) else value


def _color(names: Sequence[str]) -> dict[str, Any]:
    scale = {"domain": list(names), "range": _COLORS[: len(names)]}
    # The page has the legend, which wraps as text does.
    return {"field": "series", "type": "nominal", "scale": scale, "legend": None}


def _time_axis(plot: Plot, width: int) -> dict[str, Any]:
    format_ = "%b %d" if plot.x == "day" else "%b %d %H:%M"
    axis = {
        "format": format_,
        "tickCount": max(3, width // (90 if plot.x == "day" else 170)),
        "labelOverlap": True,
        "grid": False,
    }
    return {"field": "x", "type": "temporal", "scale": {"type": "utc"}, "axis": axis}


def _value_axis() -> dict[str, Any]:
    return {"field": "value", "type": "quantitative", "axis": {"tickCount": 5, "format": ",~f", "minExtent": 40}}


def _columns(plot: Plot, points: Sequence[Row], names: Sequence[str], width: int) -> dict[str, Any]:
    """Stacked columns over time."""
    unit = "utcyearmonthdate" if plot.x == "day" else "utcyearmonthdatehours"
    encoding = {
        "x": {**_time_axis(plot, width), "timeUnit": unit},
        "y": {**_value_axis(), "stack": "zero"},
        "order": {"field": "rank"},
        "color": _color(names),
    }
    return {"height": _HEIGHT, "mark": _BAR_MARK, "encoding": encoding}


def _lines(plot: Plot, points: Sequence[Row], names: Sequence[str], width: int) -> dict[str, Any]:
    """Lines over time, the forecast dashed, and lines across at the marks."""
    y = {**_value_axis(), "scale": {"domain": [0, 100]}} if plot.marks else _value_axis()
    dash = {
        "field": "is_forecast",
        "type": "nominal",
        "scale": {"domain": [False, True], "range": [[1, 0], [5, 4]]},
        "legend": None,
    }
    encoding = {"x": _time_axis(plot, width), "y": y, "color": _color(names), "strokeDash": dash}
    layers: list[dict[str, Any]] = [{"mark": {"type": "line", "strokeWidth": 2.5}, "encoding": encoding}]
    for value, text in plot.marks.items():
        datum = {"y": {"datum": value}}
        label = {"type": "text", "align": "left", "baseline": "bottom", "dx": 4, "dy": -3, "text": text, "x": 0}
        layers += [
            {"mark": {"type": "rule", "stroke": "var(--bad)"}, "encoding": datum},
            {"mark": label, "encoding": datum, "data": {"values": [{}]}},
        ]
    return {"height": _HEIGHT, "layer": layers}


def _bars(plot: Plot, points: Sequence[Row], names: Sequence[str], width: int) -> dict[str, Any]:
    """Horizontal bars, in the order of the rows; several values of a row below each other, or stacked."""
    is_grouped, is_stacked = plot.kind == "bars" and len(names) > 1, plot.kind == "stacked bars"
    labels = [str(point["x"]) for point in points]
    longest = int(width * (0.5 if is_grouped else 0.42) / _CHARACTER)
    extent = min(longest, max(map(len, labels))) * _CHARACTER
    cut = f"length(datum.label) > {longest} ? slice(datum.label, 0, {longest - 1}) + '…' : datum.label"
    y = {
        "field": "x",
        "type": "nominal",
        "sort": {"field": "place", "op": "min"},
        "axis": {
            "labelExpr": cut,
            "labelLimit": 0,
            "minExtent": extent,
            "maxExtent": extent,
            "ticks": False,
            "domain": False,
            "labelPadding": 6,
        },
    }
    x = _value_axis() if is_stacked else {**_value_axis(), "axis": None, "stack": None}
    encoding: dict[str, Any] = {"y": y, "x": x}
    if is_grouped:
        encoding["yOffset"] = {"field": "series", "type": "nominal", "scale": {"domain": list(names)}}
    bar = {"mark": _BAR_MARK, "encoding": {**encoding, "color": _color(names), "order": {"field": "rank"}}}
    shown = {"field": "value", "type": "quantitative", "format": ",~r"}
    text = {"mark": {"type": "text", "align": "left", "dx": 4}, "encoding": {**encoding, "text": shown}}
    step = _GROUP / 2 if is_grouped else _BAR
    return {"height": {"step": step}, "layer": [bar] if is_stacked else [bar, text]}
