"""Writes the numbers of README.md: those of whole processes only."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from benchmarks.contenders import QUPERSYNC, SEED
from benchmarks.loads import FIRST, LARGE, NEW_ROWS, SMALL
from benchmarks.sections import median, row

# The columns of README.md's table of alternatives; those that are not measured have no contender.
_COLUMNS = (QUPERSYNC, "dlt", "sling", "ingestr", None, None, SEED)


def write(file: Path, parts: dict[str, Any]) -> None:
    """Replace the lines of the table that begin as those of the measured parts.

    Raises:
        ValueError: the table has no such line.
    """
    text = file.read_text()
    for part, task, share, label in (
        ("loads", FIRST, 1, "first load of {:,.0f} rows, s"),
        ("small", FIRST, SMALL, "first load of {:,.0f} rows, s"),
        ("new_rows", f"{NEW_ROWS} new rows", LARGE, f"{NEW_ROWS} new rows among {{:,.0f}}, s"),
    ):
        if part in parts:
            label = label.format(parts[part]["rows"] * share)
            line = row([label, *(_cell(parts[part]["results"], name, task) for name in _COLUMNS)])
            text, found = re.subn(rf"^\| {re.escape(label)} \|.*$", line, text, flags=re.MULTILINE)
            if not found:
                raise ValueError(f"{file.name} has no line that begins with {label!r}.")
    file.write_text(text)


def _cell(results: dict[str, Any], name: str | None, task: str) -> str:
    """Return the median seconds of a contender, from its fastest to its slowest setting."""
    own = [tasks for title, tasks in results.items() if title == name or title.startswith(f"{name}, ")]
    if not own:
        return "-"
    medians = [f"{median(tasks[task]['s']):.1f}" for tasks in own]
    low, high = min(medians, key=float), max(medians, key=float)
    return low if low == high else f"{low} to {high}"
