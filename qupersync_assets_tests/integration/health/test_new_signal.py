"""The example of docs/new-signal.md is a signal that finds something, in a group that is found by its place."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from qupersync_assets.health import groups, signals
from qupersync_assets_tests.support.health import Clusters

DOCUMENT = (Path(__file__).parents[3] / "docs" / "new-signal.md").read_text("utf-8")


@pytest.fixture
def example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Write the example of the page; return the id of its group."""
    [code] = re.findall(r"^```python\n(.*?)^```$", DOCUMENT, re.DOTALL | re.MULTILINE)
    [name] = re.findall(r"`qupersync_assets/health/signals/(\w+)\.py`:", DOCUMENT)
    (tmp_path / f"{name}.py").write_text(code, "utf-8")
    monkeypatch.setattr(signals, "__path__", [*signals.__path__, str(tmp_path)])
    groups.cache_clear()
    yield name
    groups.cache_clear()
    sys.modules.pop(f"{signals.__name__}.{name}", None)


def test_the_example_of_the_page_finds_something(clusters: Clusters, example: str) -> None:
    row = {"application_name": "dashboard", "user_name": "anna", "database_name": "dev"}
    clusters.insert("applications", row | {"sessions": 10_001})
    clusters.insert("applications", row | {"sessions": 10_000}, cluster="well")
    assert clusters.finds(example) == [("many_sessions", "dashboard of anna", 10_001)]
    clusters.now += timedelta(minutes=1)
    clusters.finds(example, thresholds={"many_sessions": 20_000.0})
    assert clusters.open(example) == []


def test_each_signal_is_complete() -> None:
    for group in groups().values():
        for signal in group.signals:
            assert signal.title and signal.remedy and signal.url.startswith("https://docs.aws.amazon.com/redshift/")
            assert bool(signal.unavailable) != bool(signal.jobs), signal.id
            assert not signal.where or ":threshold" not in signal.where or signal.threshold is not None, signal.id
            assert not re.search(r"\b(now|current_date|clock_timestamp)\(\)", signal.sql), signal.id
