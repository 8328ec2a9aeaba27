"""The rules of deploy/prometheus are tested by promtool, and name metrics that exist."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml

from qupersync_assets.monitoring import collector

FOLDER = Path(__file__).parents[2] / "deploy/prometheus"
RULES = [rule for group in yaml.safe_load((FOLDER / "alerts.yaml").read_text())["groups"] for rule in group["rules"]]


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
@pytest.mark.parametrize("arguments", [["check", "rules", "alerts.yaml"], ["test", "rules", "alerts.test.yaml"]])
def test_promtool_accepts_the_rules(arguments: list[str]) -> None:
    done = subprocess.run(["promtool", *arguments], cwd=FOLDER, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def names(node: Any) -> set[str]:
    """Return the metrics of an expression."""
    if isinstance(node, promql_parser.VectorSelector):
        return {str(node.name)}
    found = set()
    for part in ("lhs", "rhs", "expr"):
        found |= names(getattr(node, part)) if hasattr(node, part) else set()
    for argument in getattr(node, "args", None) or []:
        found |= names(argument)
    return found


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_a_rule_names_metrics_that_exist(rule: dict[str, Any]) -> None:
    found = names(promql_parser.parse(rule["expr"]))
    code = Path(collector.__file__).read_text()
    assert found and all(name.removeprefix("qupersync_") in code for name in found)


def test_each_rule_has_a_test() -> None:
    tests = yaml.safe_load((FOLDER / "alerts.test.yaml").read_text())["tests"]
    fired = {case["alertname"] for test in tests for case in test["alert_rule_test"] if case["exp_alerts"]}
    assert fired == {rule["alert"] for rule in RULES}
    assert all(rule["labels"]["severity"] and rule["annotations"]["description"] for rule in RULES)
