"""What a plot of the health page is: a question, one SELECT, and how its rows are drawn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

# SQL expressions: the day (UTC), and the start of the last seven days.
TODAY = "(CAST(:now AS timestamptz) AT TIME ZONE 'UTC')::date"
WEEK = "CAST(:now AS timestamptz) - interval '7 days'"


@dataclass(frozen=True)
class Plot:
    """One question, and its answer.

    Attributes:
        id: its anchor in the page.
        name: a word for it, for links.
        title: the question.
        text: what the plot shows, with units.
        sql: the SELECT.
        kind: lines or columns over time, or bars from the largest value to the smallest.
        x: the column of the time, or of the names of bars.
        values: the columns that are drawn, with their names in the legend, in its order.
        unit: of the drawn values.
        headings: of the columns in the table, with units; other columns are left out.
        nothing: what it means that there is no row.
        series: the column whose values are drawn as different series of the one column of `values`.
        marks: values with a line across the plot, with its text.
        headline: a sentence with columns of the last row in braces; without their values there is none.
        is_wide: whether the plot takes the whole width of the page.
    """

    id: str
    name: str
    title: str
    text: str
    sql: str
    kind: Literal["lines", "columns", "bars", "stacked bars"]
    x: str
    values: Mapping[str, str]
    unit: str
    headings: Mapping[str, str]
    nothing: str
    series: str = ""
    marks: Mapping[float, str] = field(default_factory=dict)
    headline: str = ""
    is_wide: bool = False
