"""Writes the numbers of README.md: those of whole processes only."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from benchmarks.contenders import QUPERSYNC, SEED
from benchmarks.loads import FIRST, LARGE, NEW_ROWS, REPEAT, SMALL
from benchmarks.sections import median, row

# The columns of README.md's table of alternatives; those that are not measured have no contender.
_COLUMNS = (QUPERSYNC, "dlt", "sling", "ingestr", None, None, SEED)


def write(file: Path, parts: dict[str, Any]) -> None:
    """Replace the lines of the table that begin as those of the measured parts.

    Raises:
        ValueError: the table has no such line.
    """
    text = file.read_text()
    for part, task, value, label in (
        ("loads", REPEAT, "rewritten", "rows rewritten when {:,.0f} unchanged rows are loaded again"),
        ("loads", FIRST, "s", "first load of {:,.0f} rows, s"),
        ("small", FIRST, "s", "first load of {:,.0f} rows, s"),
        ("new_rows", f"{NEW_ROWS} new rows", "s", f"{NEW_ROWS} new rows among {{:,.0f}}, s"),
    ):
        if part in parts:
            size = parts[part]["rows"] * {"small": SMALL, "new_rows": LARGE}.get(part, 1)
            label = label.format(size)
            line = row([label, *(_cell(parts[part]["results"], name, task, value) for name in _COLUMNS)])
            text, found = re.subn(rf"^\| {re.escape(label)} \|.*$", line, text, flags=re.MULTILINE)
            if not found:
                raise ValueError(f"{file.name} has no line that begins with {label!r}.")
    file.write_text(text)


def _cell(results: dict[str, Any], name: str | None, task: str, value: str) -> str:
    """Return the medians of all settings of a contender."""
    medians = [median(tasks[task][value]) for title, tasks in results.items() if name and title.startswith(name)]
    if not medians:
        return "-"
    if value != "s":
        return f"{medians[0]:,.0f}"
    low, high = f"{min(medians):.1f}", f"{max(medians):.1f}"
    return low if low == high else f"{low} to {high}"
