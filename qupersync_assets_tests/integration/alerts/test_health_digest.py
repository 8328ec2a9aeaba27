"""New findings are sent once, together in one message, by severity; off by default."""

from __future__ import annotations

from datetime import timedelta

import dagster as dg
import pytest

from qupersync_assets.alerts.apprise_notifier import AlertError
from qupersync_assets.alerts.health_digest import build_digests
from qupersync_assets.definitions import build_code_location
from qupersync_assets.postgres.resource import PostgresResource
from qupersync_assets.settings import Settings
from qupersync_assets_tests.support.alert_servers import Webhook
from qupersync_assets_tests.support.health import Clusters
from qupersync_assets_tests.support.integration import Query


def test_new_findings_are_sent_once_in_one_message(
    two_clusters: None, postgres: PostgresResource, target: Query, webhook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEALTH_ALERT_SEVERITY", "warning")
    [sensor] = build_digests(Settings.load())
    cursor: str | None = None

    def poll() -> None:
        nonlocal cursor
        with dg.DagsterInstance.ephemeral() as instance:
            context = dg.build_sensor_context(instance, cursor=cursor, resources={"postgres": postgres})
            answer = sensor.evaluate_tick(context)
        cursor = answer.cursor

    def evaluate() -> None:
        clusters.now += timedelta(minutes=5)
        for cluster in ("north", "south"):
            clusters.synced(cluster=cluster)
            clusters.evaluate(cluster)

    clusters = Clusters(postgres, target)
    clusters.table(1, "north", stats_off_pct=30)
    evaluate()
    poll()
    assert webhook.messages == []  # those that exist at the start
    for number in range(2, 14):
        clusters.table(number, "north", stats_off_pct=10 + number)
    clusters.insert("node_details", {"node": 0, "used_mb": 95, "capacity_mb": 100}, cluster="south")
    evaluate()
    webhook.fault = "out of order"
    with pytest.raises(AlertError):
        poll()
    webhook.fault = ""
    poll()
    poll()
    [message] = webhook.messages
    title, *lines = message.splitlines()
    assert title == "QuperSync, north, south: new findings: 1 critical, 13 warning"
    assert lines[0] == "Details: https://dagster.example/assets/quper/health_findings"
    assert "table_1:" not in message and "And 4 more." in lines
    assert lines[1].startswith("critical, south: Storage is nearly full: node 0: 95 %. Add nodes ")
    assert any("Table whose statistics are out of date: dev.sales.table_" in line for line in lines)
    assert "ANALYZE sales.table_" in message


def test_it_is_off_by_default(webhook: Webhook, monkeypatch: pytest.MonkeyPatch) -> None:
    assert build_digests(Settings.load()) == []
    monkeypatch.setenv("HEALTH_ALERT_SEVERITY", "critical")
    names = [sensor.name for sensor in build_code_location(Settings.load()).get_repository_def().sensor_defs]
    assert "qupersync_health_alerts_1_json" in names
    monkeypatch.setenv("HEALTH_FINDINGS", "false")
    assert build_digests(Settings.load()) == []
