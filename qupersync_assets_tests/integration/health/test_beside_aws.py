"""Findings of a cluster with problems beside AWS's review of it: both find the same objects, and count the same."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from itertools import product
from typing import Any

import pytest
import redshift_connector

from qupersync_assets.health import all_signals, group_of, groups
from qupersync_assets.health.evaluation import evaluate
from qupersync_assets.health.options import HealthOptions
from qupersync_assets.postgres.resource import PostgresResource
from qupersync_assets.sandbox import Sandbox
from qupersync_assets.sandbox.gateway.relay import Gateway
from qupersync_assets.sync_jobs import all_specs
from qupersync_assets_tests.support.aws_review import CONDITIONS, NARROWER, WIDER
from qupersync_assets_tests.support.integration import Query, Sync

Counts = dict[str, int]
# AWS's review does not look for these: what needs a history, and three more.
NOT_AWS = {"storage_nearly_full", "load_errors", "unused_table", *(signal.id for signal in groups()["trends"].signals)}
# What AWS counts for an object, by group: hours, days, queues, recommendations; else the object.
COUNTED = {
    "usage": "times",
    "loads": "split_part(note, ' ', 1)::integer",
    "queues": "value",
    "recommendations": "CASE WHEN signal_id LIKE 'recommended%%' THEN value ELSE 1 END",
}
OF_PROVISIONED = CONDITIONS.keys() - {"variable_serverless_load"}
QUEUES = {signal.id for signal in groups()["queues"].signals} & CONDITIONS.keys()
# Changes of the queues, one after the other.
ONE_QUEUE = """
DELETE FROM redshift.stv_wlm_qmr_config;
DELETE FROM redshift.stv_wlm_classification_config WHERE action_service_class = 101;
UPDATE redshift.stv_wlm_service_class_config SET concurrency_scaling = 'off'"""
MANUAL = """
UPDATE redshift.stv_wlm_service_class_config SET service_class = 6 WHERE service_class = 100;
UPDATE redshift.stv_wlm_classification_config SET action_service_class = 6 WHERE action_service_class = 100"""
# The values of columns at and beside the limits of conditions, for copies of a table.
LIMITS: dict[str, list[Any]] = {
    "tbl_rows": [5_000_000, 5_000_001],
    "sortkey1": [None, "", "id", "AUTO(SORTKEY)", "INTERLEAVED"],
    "diststyle": ["EVEN", "ALL", "KEY(order_date)", "AUTO(ALL)", "AUTO(KEY(order_date))"],
}
NUMBERS: dict[str, list[Any]] = {
    "skew_rows": [3.99, 4, None],
    "vacuum_sort_benefit": [10, 9.99, None],
    "stats_off": [10, 10.01, None],
    "sortkey1_enc": ["none", "az64", None, ""],
    "estimated_visible_rows": [4_500_001, 4_499_000, None],
}
NODES = [70_000, 70_010, 50_000, 50_010, 40_000, 39_990]
# Loads of two files: COPY commands on a day, parts of the files, and their bytes.
LOADS = {"rarely": (24, 2, 20), "often": (25, 2, 19_999_998), "in_parts": (25, 3, 20_000_000)}


def test_each_signal_has_a_condition_of_aws_or_is_not_in_its_review() -> None:
    found = {signal.id for signal in all_signals().values() if not signal.unavailable}
    assert CONDITIONS.keys() | NOT_AWS == found and not CONDITIONS.keys() & NOT_AWS
    assert WIDER.keys() | NARROWER.keys() <= CONDITIONS.keys() and not WIDER.keys() & NARROWER.keys()


@pytest.fixture
def limits(filled: Sandbox, source: Query) -> None:
    """Add problems, and tables, nodes, loads and recommendations at and beside the limits of conditions."""
    filled.workload().add_problems(datetime.now(UTC))
    for number, values in enumerate(product(*LIMITS.values())):
        row = dict(zip(LIMITS, values, strict=True)) | {n: v[number % len(v)] for n, v in NUMBERS.items()}
        row |= {"table_id": 900_000 + number, "table": f"limit_{number}"}
        source(
            "INSERT INTO redshift.svv_table_info SELECT (jsonb_populate_record(t, %s)).* "
            "FROM redshift.svv_table_info t WHERE t.\"table\" = 'cohorts'",
            [json.dumps(row)],
        )
        source(
            "INSERT INTO redshift.pg_attribute SELECT (jsonb_populate_record(a, %s)).* FROM redshift.pg_attribute a "
            "JOIN redshift.svv_table_info t ON t.table_id = a.attrelid WHERE t.\"table\" = 'cohorts'",
            [json.dumps({"attrelid": row["table_id"]})],
        )
    for node, used in enumerate(NODES, 10):
        source("INSERT INTO redshift.stv_node_storage_capacity VALUES (%s, %s, 100000)", [node, used])
    for place, (table, (copies, parts, size)) in enumerate(LOADS.items(), 1):
        for view, row in (
            ("sys_load_history", {"table_name": table, "source_file_count": 2, "file_bytes_scanned": size}),
            ("sys_load_detail", {"splits_scanned": parts}),
        ):
            source(
                f"INSERT INTO redshift.{view} SELECT (jsonb_populate_record(l, %s || jsonb_build_object('query_id', n))).* "
                f"FROM redshift.{view} l, generate_series(%s, %s) n WHERE l.ctid = (SELECT max(ctid) FROM redshift.{view} "
                "WHERE query_id = (SELECT max(query_id) FROM redshift.sys_load_history "
                "WHERE table_name = 'orders_raw' AND loaded_rows > 0))",
                [json.dumps(row), place * 10**8 + 1, place * 10**8 + copies],
            )
    source(
        "UPDATE redshift.svv_alter_table_recommendations r SET auto_eligible = 't' "
        "WHERE table_id = (SELECT min(table_id) FROM redshift.svv_alter_table_recommendations n WHERE n.type = r.type)"
    )
    source(
        "UPDATE redshift.sys_serverless_usage SET compute_capacity = 8 + 24 * (extract(minute FROM start_time) / 30)::int"
    )


class Review:
    """Runs conditions over Redshift's views as a user of the product, and reads what an evaluation finds."""

    def __init__(self, environment: dict[str, str], target: Query, postgres: PostgresResource) -> None:
        self._environment = environment
        self._target = target
        self._postgres = postgres
        self.found: dict[str, Counts] = defaultdict(dict)

    def count(self, port: str, *statements: str) -> Iterator[Counts]:
        names = ("host", "database", "user", "password")
        login: dict[str, Any] = {name: self._environment[f"REDSHIFT_{name.upper()}"] for name in names}
        with closing(redshift_connector.connect(**login, port=int(port), ssl=False)) as source:
            for statement in statements:
                cursor = source.cursor()
                cursor.execute(statement)
                yield {name: int(number) for name, number in cursor.fetchall()}

    def findings(self, signal: str) -> Counts:
        counted = COUNTED.get(group_of(all_signals()[signal]), "1")
        sql = f"SELECT object, ({counted})::integer FROM quper.health_open WHERE signal_id = %s"
        return dict(self._target(sql, [signal]))

    def compare(self, signals: set[str], port: str = "") -> None:
        """Evaluate, and compare the findings of signals with AWS's conditions, and with those that differ from AWS's."""
        evaluate(self._postgres, "sandbox", HealthOptions([spec.sync_job_id for spec in all_specs()]), always=True)
        port = port or self._environment["REDSHIFT_PORT"]
        found = {signal: self.findings(signal) for signal in sorted(signals)}
        aws = dict(zip(found, self.count(port, *(CONDITIONS[signal] for signal in found)), strict=True))
        differ = {signal: sql for signal, sql in (WIDER | NARROWER).items() if signal in signals}
        assert found == aws | dict(zip(differ, self.count(port, *differ.values()), strict=True))
        for signal in differ:
            less, more = (aws, found) if signal in WIDER else (found, aws)
            assert less[signal].keys() <= more[signal].keys(), signal
        for signal, counts in found.items():
            self.found[signal] |= counts


def test_findings_are_those_of_aws(
    filled: Sandbox,
    limits: None,
    sync: Sync,
    source: Query,
    target: Query,
    bare: PostgresResource,
    environment: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SYNC_JOBS", ",".join(spec.sync_job_id for spec in all_specs()))
    assert sync().success
    review = Review(environment, target, bare)
    review.compare(OF_PROVISIONED)
    for change in (ONE_QUEUE, MANUAL):
        source(change)
        assert sync("wlm_queues", "wlm_rules").success
        review.compare(QUEUES)
    with Gateway((filled.server.host, filled.server.port), mode="serverless") as gateway:
        monkeypatch.setenv("REDSHIFT_PORT", str(gateway.port))
        assert sync("serverless_usage").success
        review.compare({"variable_serverless_load"}, str(gateway.port))
    # What nothing is found by is not compared.
    assert {signal for signal in CONDITIONS if not review.found[signal]} == set()
