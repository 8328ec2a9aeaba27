"""The dashboards are what Grafana can import: its schema, variables, links and layout; and they answer questions."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models import dashboard

from qupersync_assets.health import groups
from qupersync_assets_tests.support.doc_blocks import PROJECT
from tools.grafana import boards
from tools.grafana.macros import expand, statements

BOARDS = {board["uid"]: board for board in map(json.loads, boards().values())}
EACH = pytest.mark.parametrize("board", BOARDS.values(), ids=list(BOARDS))
NOW = datetime(2026, 3, 1, tzinfo=UTC)
FILES = sorted((PROJECT / "deploy" / "grafana").glob("*.json"))
# Grafana writes this field, which its Foundation SDK does not know.
UNKNOWN = r"/templating/list/\d+/definition"


def without(found: Any, kept: Any, path: str = "") -> Iterator[str]:
    """Yield the paths of values that `kept` lacks or has changed, and of null; it may have more."""
    if isinstance(found, dict) and isinstance(kept, dict):
        for name, value in found.items():
            yield from without(value, kept.get(name), f"{path}/{name}")
    elif isinstance(found, list) and isinstance(kept, list) and len(found) == len(kept):
        for number, (value, other) in enumerate(zip(found, kept, strict=True)):
            yield from without(value, other, f"{path}/{number}")
    elif found != kept or (found is None and not path.endswith("/steps/0/value")):  # the lowest threshold has none
        yield path


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_the_schema_of_grafana_has_each_field(file: Path) -> None:
    register_default_plugins()
    board = json.loads(file.read_text("utf-8"))
    known = json.loads(json.dumps(dashboard.Dashboard.from_json(board), cls=JSONEncoder))
    assert [path for path in without(board, known) if not re.fullmatch(UNKNOWN, path)] == []


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_data_sources_and_variables_are_those_of_the_board(file: Path) -> None:
    board = json.loads(file.read_text("utf-8"))
    variables = {variable["name"]: variable for variable in board["templating"]["list"]}
    assert len(variables) == len(board["templating"]["list"])
    sources = {name: each["query"] for name, each in variables.items() if each["type"] == "datasource"}
    targets = [target for panel in board["panels"] for target in panel.get("targets", [])]
    users = [each for each in (*board["panels"], *variables.values(), *targets) if "datasource" in each]
    assert users
    for each in users:
        name = re.fullmatch(r"\$\{(\w+)\}", each["datasource"]["uid"])
        assert name and sources[name[1]] == each["datasource"]["type"], each
    for panel in board["panels"]:
        names = [target["refId"] for target in panel.get("targets", [])]
        assert len(names) == len(set(names)), panel["title"]
        for target in panel.get("targets", []):
            used = re.findall(r"\$\{?(\w+)", target.get("expr", "") or target.get("rawSql", ""))
            assert {name for name in used if not name.startswith("__")} <= variables.keys(), panel["title"]


def test_questions_of_administrators_have_a_command_or_a_panel() -> None:
    text = (PROJECT / "docs" / "monitoring.md").read_text("utf-8")
    _, _, rows = text.partition("| question | command | panel |\n|---|---|---|\n")
    questions = [line.strip("| ").split(" | ") for line in rows.partition("\n\n")[0].splitlines()]
    assert len(questions) == 10
    panels = {panel["title"] for panel in BOARDS["qupersync-redshift"]["panels"] if panel["type"] != "row"}
    for question, *cells in questions:
        [*commands, panel] = [name for cell in cells for name in re.findall(r"`(.*?)`", cell)]
        assert question.endswith("?") and panel in panels, question
        for command in commands:
            assert re.fullmatch(rf"qupersync health( --group ({'|'.join(groups())}))?", command), command


@EACH
def test_panels_are_described_and_do_not_overlap(board: dict[str, Any]) -> None:
    ids = [panel["id"] for panel in board["panels"]]
    assert len(ids) == len(set(ids))
    covered: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & covered and place["x"] + place["w"] <= 24, panel["title"]
        covered |= cells
        if panel["type"] != "row":
            assert panel["title"] and panel["description"].endswith(".")
            assert panel["datasource"]["uid"] == panel["targets"][0]["datasource"]["uid"] == "${datasource}"


@EACH
def test_statements_use_the_variables_of_the_board_and_of_one_cluster(board: dict[str, Any]) -> None:
    known = {variable["name"] for variable in board["templating"]["list"]}
    for name, sql in statements(board):
        assert set(re.findall(r"\$\{(\w+):sqlstring\}", sql)) <= known, name
        assert "cluster = ${cluster:sqlstring}" in sql or name.endswith("variable cluster"), name


@EACH
def test_links_lead_to_variables_of_another_board_with_columns_of_the_row(board: dict[str, Any]) -> None:
    links = 0
    for panel in board["panels"]:
        for override in panel.get("fieldConfig", {}).get("overrides", []):
            columns = {override["matcher"]["options"]}
            for link in (value for each in override["properties"] if each["id"] == "links" for value in each["value"]):
                uid, query = re.fullmatch(r"/d/([\w-]+)\?(.*)", link["url"]).groups()
                columns |= set(re.findall(r"__data\.fields\.(\w+)", query))
                variables = {variable["name"] for variable in BOARDS[uid]["templating"]["list"]}
                assert set(re.findall(r"&var-(\w+)=", query)) <= variables
                links += 1
            for column in columns - {"critical", "warning", "info"}:
                assert re.search(rf"\b{column}\b", panel["targets"][0]["rawSql"]), (panel["title"], column)
    assert links


def test_values_of_variables_are_literals() -> None:
    sql = "SELECT $__timeGroup(hour, $__interval) FROM t WHERE a IN (${a:sqlstring}) AND $__timeFilter(hour) AND '*' IN (${b:sqlstring})"
    assert expand(sql, {"a": ["o'neill", "x"]}, NOW, NOW, "5m") == (
        "SELECT floor(extract(epoch from hour)/300)*300 FROM t WHERE a IN ('o''neill','x') "
        "AND hour BETWEEN '2026-03-01T00:00:00Z' AND '2026-03-01T00:00:00Z' AND '*' IN ('*')"
    )
    with pytest.raises(ValueError, match="__unixEpochFilter"):
        expand("$__unixEpochFilter(x)", {}, NOW, NOW)
