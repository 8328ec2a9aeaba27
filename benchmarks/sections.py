"""The sections of the report: whole processes, then inner seconds."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from typing import Any

from benchmarks import clusters, service
from benchmarks.host import LATENCY
from benchmarks.loads import FIRST, LARGE, NEW_ROWS, REPEAT, SMALL
from benchmarks.ticks import SEED_ROWS, TASK

Part = dict[str, Any]


def median(values: list[float]) -> float:
    """Return the median of the rounds."""
    return float(statistics.median(values))


def spread(values: list[float], form: str = ".2f") -> str:
    """Return the median, with minimum and maximum in parentheses."""
    return f"{median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def row(cells: list[str]) -> str:
    """Return a line of a table."""
    return f"| {' | '.join(cells)} |"


def table(head: list[str], rows: list[list[str]]) -> Iterator[str]:
    """Yield the lines of a table."""
    yield row(head)
    yield "|---" * len(head) + "|"
    yield from map(row, rows)


_LOADS = """\
- A contender is a process of which nothing runs before, and its seconds are those of a user who waits for it.
  QuperSync is `qupersync sync query_history_sync` without a Dagster instance; a repeat has `--full-refresh`.
- All read the same rows of 33 columns, about 440 bytes each, through the gateway, and merge them by the key into
  separate tables of the same server. After each load and each repeat the target is compared with the source, by a
  sum of hashes over all 33 columns; a difference ends the part.
- The source has no index, as Redshift has none. QuperSync asks for the rows in the order of their start, other
  tools in any order.
- QuperSync's tables exist before the first load. The table has six indexes besides the key, three of them partial,
  and more columns. After the load QuperSync looks for problems of the cluster. Other tools create their tables.
- `dlt, default` takes minutes: its large loads are measured once.
- Other tools use a gateway that accepts all statements; QuperSync uses one that checks each statement as Redshift
  does.
- The settings are in [benchmarks/contenders.py](../benchmarks/contenders.py), the versions of the other tools in
  [benchmarks/peers](../benchmarks/peers)."""
_NEW_ROWS = """\
The other rows are loaded already. QuperSync reads the last hour again, because Redshift may record rows late. Other
tools use their own setting for new rows, by `start_time`: the cursor of dlt, `--incremental-key` of ingestr and
`--update-key` of Sling. ingestr reads all rows unless the user says since when, which its best setting does."""
_TICKS = """\
A tick as the daemon launches it, from the launch to its end. CPU seconds include the run and its steps, the code
server, and PostgreSQL with the storage of Dagster. Dagster's default is a run worker that is a new process, the
multiprocess executor, whose steps are new processes, and a storage that opens a connection for each query.
QuperSync's predecessor is a running service that reads {rows:,} rows of one table again."""
_SERVICE = """\
`make up` with one cluster: webserver, daemon, run server and code server. Memory is the sum of Pss, in which shared
pages count once, without PostgreSQL."""
_BAD_ROWS = """\
Invalid in the source is an infinite time. PostgreSQL refuses a row because of a constraint that a user has added:
QuperSync finds such rows by halves, and keeps their keys for the next loads."""
_INNER = """\
Those of QuperSync are in its row of `quper.sync_logs`, those of dlt are of its pipeline after the imports. Those of
other tools, which do not report them, are of the process."""


def _loads(part: Part) -> Iterator[str]:
    yield from (f"### {part['rows']:,} queries: first load and unchanged repeat", "")
    yield from ("![seconds of the whole process](benchmark.svg)", "")
    rows = []
    for title, tasks in part["results"].items():
        first, repeat = tasks[FIRST], tasks[REPEAT]
        cells = [
            spread(first["s"]),
            f"{median(first['CPU s']):.1f}",
            spread(repeat["s"]),
            f"{median(repeat['CPU s']):.1f}",
        ]
        peak = max(*first["peak MB"], *repeat["peak MB"])
        rows.append([title, *cells, f"{median(repeat['rewritten']):,.0f}", f"{peak:.0f}"])
    yield from table(["process", "first load, s", "CPU s", "repeat, s", "CPU s", "rewritten rows", "peak MB"], rows)
    yield from ("", *_LOADS.splitlines())


def _processes(part: Part) -> list[list[str]]:
    """Return a row for each title and task: seconds, CPU seconds, peak memory."""
    return [
        [title, task, spread(found["s"]), spread(found["CPU s"]), f"{max(found['peak MB']):.0f}"]
        for title, tasks in part["results"].items()
        for task, found in tasks.items()
    ]


_HEAD = ["process", "", "s", "CPU s", "peak MB"]


def _small(part: Part) -> Iterator[str]:
    yield from (f"### {part['rows'] * SMALL:,.0f} queries", "", *table(_HEAD, _processes(part)))


def _new_rows(part: Part) -> Iterator[str]:
    yield from (f"### {NEW_ROWS} new queries among {part['rows'] * LARGE:,.0f}", "")
    yield from (_NEW_ROWS, "", *table(_HEAD, _processes(part)))


def _commands(part: Part) -> Iterator[str]:
    yield from ("### Commands", "", "After a sync of all jobs.", "", *table(_HEAD, _processes(part)))


def _ticks(part: Part) -> Iterator[str]:
    yield from ("### All default jobs without new rows", "")
    yield from (_TICKS.format(rows=SEED_ROWS), "")
    sides = ["to Redshift", "to PostgreSQL", "by Dagster"]
    rows = []
    for title, tasks in part["results"].items():
        counts = [f"{sum(tasks['statements'].get(side, [])):.0f}" if "statements" in tasks else "" for side in sides]
        rows.append([title, spread(tasks[TASK]["s"]), spread(tasks[TASK]["CPU s"]), *counts])
    head = ["tick", "s", "CPU s", "statements to Redshift", "to PostgreSQL", "Dagster's own to PostgreSQL"]
    yield from table(head, rows)


def _service(part: Part) -> Iterator[str]:
    found = part["results"][service.TITLE][service.TASK]
    yield from ("### The service without work", "")
    yield from (_SERVICE, "")
    names = ["CPU s", "CPU s of PostgreSQL", "Pss MB", "processes"]
    yield from table(["one minute", *names], [["", *(spread(found[name], ".1f") for name in names)]])


def _clusters(part: Part) -> Iterator[str]:
    yield from (f"### {part['rows']:,} queries of a second cluster", "")
    yield f"Beside {part['rows'] * LARGE:,.0f} of another one. Statistics of the table do not know the second cluster."
    yield "Findings are not evaluated, which takes as long for both."
    rows = _processes(part)
    entries = part["results"][clusters.BESIDE][FIRST]["index entries per row"]
    yield from ("", *table(_HEAD, rows), "", f"Index entries read for each row: {spread(entries)}.")


def _bad_rows(part: Part) -> Iterator[str]:
    yield from (f"### Bad rows among {part['rows'] * clusters.BAD_SHARE:,.0f} queries", "")
    yield from (_BAD_ROWS, "", *table(_HEAD, _processes(part)))


def _growth(part: Part) -> Iterator[str]:
    yield from ("### Growing source", "", "One first load of each size, pages of 1000.", "")
    rows = [
        [number, f"{found['s'][0]:.1f}", f"{found['CPU s'][0]:.1f}", f"{found['peak MB'][0]:.0f}"]
        for number, tasks in part["results"].items()
        for found in tasks.values()
    ]
    yield from table(["rows", "s", "CPU s", "peak MB"], rows)


def _latency(part: Part) -> Iterator[str]:
    yield from (f"### {1000 * LATENCY:.0f} ms of latency for each response of Redshift", "")
    yield from (f"{part['rows']:,} queries.", "")
    yield from table(["rows per page", "first load", "s", "CPU s", "peak MB"], _processes(part))


_PAGES = """\
{queries:,} queries of seven days and {tables:,} tables of one cluster, beside a second cluster
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


def _pages(part: Part) -> Iterator[str]:
    found = part["results"]
    yield from ("### Pages of readers", "", _PAGES.format(**found, hours=found["queries"] // (7 * 4)))
    rows = [
        [title, str(took["lines"]), f"{took['one']:.1f}", f"{took['both']:.1f}"]
        for title, took in found["pages"].items()
    ]
    yield from table(["page", "lines", "one cluster, ms", "both clusters, ms"], rows)
    yield from ("", _PANELS.format(**found["health"]))
    yield from table(["panel", "ms"], [[title, f"{took:.1f}"] for title, took in found["panels"].items()])


def _inner(part: Part) -> Iterator[str]:
    """The same rounds without starting and importing, where a tool says so."""
    rows = [
        [title, task, spread(found.get("inner s", found["s"]))]
        for title, tasks in part["results"].items()
        for task, found in tasks.items()
    ]
    yield from table(["", "", "inner s"], rows)


def _inner_loads(part: Part) -> Iterator[str]:
    yield from (f"### {part['rows']:,} queries: first load and unchanged repeat", "")
    yield from (_INNER, "", *_inner(part))


def _inner_small(part: Part) -> Iterator[str]:
    yield from (f"### {part['rows'] * SMALL:,.0f} queries: first load", "", *_inner(part))


def _inner_new_rows(part: Part) -> Iterator[str]:
    yield from (f"### {NEW_ROWS} new queries among {part['rows'] * LARGE:,.0f}: load", "", *_inner(part))


WHOLE: dict[str, Callable[[Part], Iterator[str]]] = {
    "loads": _loads,
    "small": _small,
    "new_rows": _new_rows,
    "commands": _commands,
    "ticks": _ticks,
    "service": _service,
    "clusters": _clusters,
    "bad_rows": _bad_rows,
    "growth": _growth,
    "latency": _latency,
}
INNER: dict[str, Callable[[Part], Iterator[str]]] = {
    "loads": _inner_loads,
    "small": _inner_small,
    "new_rows": _inner_new_rows,
}
READERS: dict[str, Callable[[Part], Iterator[str]]] = {"pages": _pages}
