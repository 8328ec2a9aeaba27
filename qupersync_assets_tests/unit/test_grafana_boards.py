"""The dashboards on PostgreSQL are what Grafana can import: their variables, links and layout."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import Any

import pytest

from tools.grafana import boards
from tools.grafana.macros import expand, statements

BOARDS = {board["uid"]: board for board in map(json.loads, boards().values())}
EACH = pytest.mark.parametrize("board", BOARDS.values(), ids=list(BOARDS))
NOW = datetime(2026, 3, 1, tzinfo=UTC)


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
