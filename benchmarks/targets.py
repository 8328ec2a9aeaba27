"""The targets of the benchmark, and whether they are met."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from benchmarks import clusters, commands, service
from benchmarks.contenders import QUPERSYNC, SEED, SIZES
from benchmarks.growth import WITH, WITHOUT
from benchmarks.health import LIMIT_SECONDS
from benchmarks.host import LATENCY
from benchmarks.loads import FIRST, NEW_ROWS, REPEAT
from benchmarks.pages import LIMIT_MS, PANEL_LIMIT_MS
from benchmarks.sections import median
from benchmarks.ticks import DEFAULT, TASK

# Name, target, what was measured, whether the target is met.
Target = tuple[str, str, str, bool]
Part = dict[str, Any]
_SECONDS = 1.2  # of a short sync
_OWN = [f"{QUPERSYNC}, pages of {size}" for size in SIZES]


def targets(parts: dict[str, Part]) -> Iterator[Target]:
    """Yield the targets of the parts that were measured."""
    for name, find in _TARGETS.items():
        if name in parts:
            yield from find(parts[name]["results"], parts[name])


def _at_most(name: str, limit: float, value: float, unit: str = "") -> Target:
    return name, f"at most {limit:g}{unit}", f"{value:.2f}{unit}", value <= limit


def _ratio(these: list[float], those: list[float]) -> float:
    """Return the median ratio of the rounds that both have."""
    return median([one / other for one, other in zip(these, those, strict=False)])


def _loads(results: Part, part: Part) -> Iterator[Target]:
    for own in _OWN:
        for peer in (title for title in results if title not in _OWN):
            for task in (FIRST, REPEAT):
                ratio = _ratio(results[own][task]["s"], results[peer][task]["s"])
                yield _at_most(f"{part['rows']:,} rows, {task}: {own}, to {peer}", 1, ratio)
        rewritten = max(results[own][REPEAT]["rewritten"])
        yield f"rows rewritten by an unchanged repeat: {own}", "0", f"{rewritten:.0f}", rewritten == 0


def _small(results: Part, part: Part) -> Iterator[Target]:
    for own in _OWN:
        yield _at_most(f"few rows: {own}", _SECONDS, median(results[own][FIRST]["s"]), " s")
        for peer in (title for title in results if title.startswith(("dlt", SEED))):
            yield _at_most(
                f"few rows: {own}, to {peer}", 1, _ratio(results[own][FIRST]["s"], results[peer][FIRST]["s"])
            )


def _new_rows(results: Part, part: Part) -> Iterator[Target]:
    ((_, found),) = results[_OWN[0]].items()
    yield _at_most(f"{NEW_ROWS} new rows: {QUPERSYNC}", _SECONDS, median(found["s"]), " s")


def _commands(results: Part, part: Part) -> Iterator[Target]:
    limits = {f"qupersync {name}": limit for name, limit in commands.LIMITS.items()} | {
        commands.DEMO: commands.DEMO_LIMIT
    }
    for title, limit in limits.items():
        yield _at_most(title, limit, median(results[title][commands.TASK]["s"]), " s")


def _ticks(results: Part, part: Part) -> Iterator[Target]:
    own = results[QUPERSYNC][TASK]
    for other, limit in ((DEFAULT, 0.2), (SEED, 0.5)):
        for name, unit in (("CPU s", "CPU seconds"), ("s", "seconds")):
            yield _at_most(f"idle tick: {unit}, to {other}", limit, _ratio(own[name], results[other][TASK][name]))


def _service(results: Part, part: Part) -> Iterator[Target]:
    found = results[service.TITLE][service.TASK]
    yield _at_most("service without work, CPU seconds a minute", service.LIMIT_CPU, median(found["CPU s"]), " s")
    yield _at_most("service without work, memory (Pss)", service.LIMIT_MB, median(found["Pss MB"]), " MB")


def _clusters(results: Part, part: Part) -> Iterator[Target]:
    alone, beside = (results[title][FIRST] for title in (clusters.ALONE, clusters.BESIDE))
    yield _at_most("first load of a second cluster, to one into an empty table", 1.3, _ratio(beside["s"], alone["s"]))
    yield _at_most("index entries read for each row of a second cluster", 3, median(beside["index entries per row"]))


def _bad_rows(results: Part, part: Part) -> Iterator[Target]:
    clean = results[clusters.CLEAN]
    for title in (clusters.INVALID, clusters.REFUSED):
        for task, limit in ((FIRST, 2), (REPEAT, 1.3)):
            yield _at_most(
                f"{title}: {task}, to clean rows", limit, _ratio(results[title][task]["s"], clean[task]["s"])
            )


def _growth(results: Part, part: Part) -> Iterator[Target]:
    peaks = [tasks[FIRST]["peak MB"][0] for tasks in results.values()]
    yield _at_most("peak memory: most to fewest rows", 1.3, peaks[-1] / peaks[0])
    yield _at_most("peak memory", 200, max(peaks), " MB")


def _latency(results: Part, part: Part) -> Iterator[Target]:
    for size, tasks in results.items():
        pages = -(-part["rows"] // int(size))
        added = [slow - fast for slow, fast in zip(tasks[WITH]["s"], tasks[WITHOUT]["s"], strict=True)]
        name = f"pages of {size}: {1000 * LATENCY:.0f} ms of latency add to a page"
        yield _at_most(name, 25, 1000 * median(added) / pages, " ms")


def _pages(results: Part, part: Part) -> Iterator[Target]:
    slowest = max(took["one"] for took in results["pages"].values())
    yield _at_most("slowest page of readers", LIMIT_MS, slowest, " ms")
    yield _at_most("slowest panel of a dashboard", PANEL_LIMIT_MS, max(results["panels"].values()), " ms")
    yield _at_most("evaluation of findings", LIMIT_SECONDS, results["health"]["next"], " s")
    yield _at_most("a year of daily history of tables", 1024, results["daily MB"], " MB")


_TARGETS = {
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
    "pages": _pages,
}
