"""The private interfaces of Dagster that the product uses: each is where it was, and takes what we pass."""

from __future__ import annotations

import inspect
import multiprocessing.context
import re
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.instance.ref import InstanceRef
from dagster._core.storage.event_log.schema import AssetCheckExecutionsTable
from dagster._core.storage.event_log.sql_event_log import SqlEventLogStorage
from dagster._core.storage.local_compute_log_manager import LocalComputeLogManager
from dagster._grpc.client import DagsterGrpcClient
from dagster._grpc.impl import core_execute_run
from dagster._utils.hosted_user_process import recon_job_from_origin
from dagster_postgres import PostgresEventLogStorage
from dagster_shared.serdes import unpack_value

import qupersync_assets
from qupersync_assets.defs import dagster_internals

PACKAGE = Path(qupersync_assets.__file__).parent
PRIVATE = re.compile(r"\b(dagster(?:\._[\w.]+|_shared[\w.]*))(?: import (\w+))?")
USED = {
    "defs/dagster_internals.py": {
        ("dagster._core.instance.ref", "InstanceRef"),
        ("dagster._core.storage.event_log.schema", "AssetCheckExecutionsTable"),
        ("dagster._core.storage.noop_compute_log_manager", ""),
        ("dagster._grpc.impl", "core_execute_run"),
        ("dagster._utils.hosted_user_process", "recon_job_from_origin"),
        ("dagster._utils.interrupts", "capture_interrupts"),
        ("dagster_shared.serdes", "unpack_value"),
    },
    # Classes that dagster.yaml names; the daemon and the webserver import nothing else for them. What they extend has
    # no public path.
    "serve/code_server.py": {("dagster._grpc.client", ""), ("dagster._grpc.client", "DagsterGrpcClient")},
    "serve/event_storage.py": {("dagster._core.storage.event_log.schema", "AssetCheckExecutionsTable")},
    "serve/run_launcher.py": {("dagster._core.launcher", "CheckRunHealthResult")},
    "serve/step_output.py": {
        ("dagster._core.storage.compute_log_manager", "CapturedLogContext"),
        ("dagster._core.storage.local_compute_log_manager", "IO_TYPE_EXTENSION"),
    },
}


def test_private_interfaces_are_used_in_few_places() -> None:
    found = {
        path.relative_to(PACKAGE).as_posix(): set(PRIVATE.findall(path.read_text("utf-8")))
        for path in PACKAGE.rglob("*.py")
    }
    assert {name: uses for name, uses in found.items() if uses} == USED


@pytest.mark.parametrize(
    ("function", "parameters"),
    [
        (unpack_value, ["val"]),
        (InstanceRef.from_dir, ["base_dir", "overrides"]),
        (dg.DagsterInstance.from_ref, ["instance_ref"]),
        (core_execute_run, ["recon_job", "dagster_run", "instance", "inject_env_vars"]),
        (recon_job_from_origin, ["origin"]),
        (DagsterGrpcClient, ["socket"]),
        (DagsterGrpcClient.ping, ["self", "echo"]),
        (LocalComputeLogManager, ["base_dir", "inst_data"]),
        (LocalComputeLogManager.get_captured_local_path, ["self", "log_key", "extension"]),
        (LocalComputeLogManager.complete_artifact_path, ["self", "log_key"]),
        (multiprocessing.context.BaseContext.get_context, ["self", "method"]),
        (SqlEventLogStorage.has_table, ["self", "table_name"]),
        (SqlEventLogStorage.has_asset_key_col, ["self", "column_name"]),
        (SqlEventLogStorage.index_connection, ["self"]),
        (SqlEventLogStorage.store_asset_check_event, ["self", "event", "event_id"]),
        (PostgresEventLogStorage, ["postgres_url", "should_autocreate_tables"]),
        (PostgresEventLogStorage.store_event, ["self", "event"]),
    ],
    ids=lambda value: getattr(value, "__qualname__", ""),
)
def test_a_function_takes_the_arguments_that_are_passed(function: object, parameters: list[str]) -> None:
    assert callable(function)
    assert set(parameters) <= set(inspect.signature(function).parameters)


def test_the_table_of_check_evaluations_has_the_columns() -> None:
    columns = {"id", "asset_key", "check_name", "partition", "create_timestamp"}
    assert columns <= set(AssetCheckExecutionsTable.c.keys())


def test_output_is_not_captured_without_a_compute_log_manager(tmp_path: Path) -> None:
    (tmp_path / "dagster.yaml").touch()
    for captures_output in (True, False):
        with dagster_internals.open_instance(tmp_path, captures_output=captures_output) as instance:
            kind = type(instance.compute_log_manager).__name__
            assert (kind == "NoOpComputeLogManager") != captures_output
