"""The definitions: each asset with its sources, checks, lineage, retries and freshness, and no secret."""

from __future__ import annotations

import ast
from datetime import timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.remote_representation.external_data import RepositorySnap
from dagster_shared.serdes import serialize_value

import qupersync_assets
from qupersync_assets.defs.names import HEALTH_KEY
from qupersync_assets.spec import SyncSpec
from qupersync_assets.spec.redshift_views import column_types
from qupersync_assets.sync_jobs import default_specs
from qupersync_assets_tests.unit.conftest import PASSWORDS, Build

PACKAGE = Path(qupersync_assets.__file__).parent
SPECS = pytest.mark.parametrize("spec", default_specs(), ids=lambda spec: spec.sync_job_id)


def node_of(definitions: dg.Definitions, spec: SyncSpec) -> Any:
    return definitions.get_repository_def().asset_graph.get(dg.AssetKey(["quper", spec.table.name]))


def test_definitions_are_loadable(definitions: dg.Definitions) -> None:
    dg.Definitions.validate_loadable(definitions)


@SPECS
def test_an_asset_is_downstream_of_its_views(definitions: dg.Definitions, spec: SyncSpec) -> None:
    node = node_of(definitions, spec)
    assert node.parent_keys == {dg.AssetKey(["redshift", view]) for view in spec.all_sources}
    for parent in [definitions.get_repository_def().asset_graph.get(key) for key in node.parent_keys]:
        assert parent.is_external and not parent.is_executable
        assert parent.kinds == {"redshift"} and parent.group_name == "redshift" and parent.owners
        view = parent.key.path[-1]
        assert view in parent.description and f"quper.{spec.table.name}" in parent.description
        assert parent.metadata["documentation"].value.startswith("https://docs.aws.amazon.com/redshift/")


@SPECS
def test_an_asset_is_described(definitions: dg.Definitions, spec: SyncSpec) -> None:
    node = node_of(definitions, spec)
    assert node.is_materializable
    assert node.group_name == "quper"
    assert node.kinds == {"redshift", "postgres"}
    assert node.owners == ["team:data-platform"]
    assert spec.description in node.description and spec.table.comment in node.description
    assert all(view in node.description for view in spec.all_sources)
    assert node.tags["sync_job_id"] == spec.sync_job_id
    assert node.metadata["dagster/table_name"] == f"quper.{spec.table.name}"


@SPECS
def test_an_asset_shows_its_columns(definitions: dg.Definitions, spec: SyncSpec) -> None:
    schema = node_of(definitions, spec).metadata["dagster/column_schema"]
    assert [c.name for c in schema.columns] == spec.table.c.keys()
    assert all(c.type and c.description for c in schema.columns)
    assert [c.name for c in schema.columns if "primary key" in c.constraints.other] == [
        c.name for c in spec.table.c if c.primary_key
    ]
    assert all(c.constraints.nullable == spec.table.c[c.name].nullable for c in schema.columns)


@SPECS
def test_both_ends_of_the_column_lineage_exist(definitions: dg.Definitions, spec: SyncSpec) -> None:
    sources = definitions.get_repository_def().asset_graph.external_asset_keys
    lineage = node_of(definitions, spec).metadata["dagster/column_lineage"].deps_by_column
    assert lineage.keys() == set(spec.table.c.keys()) - {"cluster", "synced_at", "removed_at"}
    for dep in [dep for deps in lineage.values() for dep in deps]:
        assert dep.asset_key in sources
        assert dep.column_name in column_types(dep.asset_key.path[-1])


@SPECS
def test_the_columns_link_to_their_other_ends(definitions: dg.Definitions, spec: SyncSpec) -> None:
    """Dagster draws column lineage in Dagster+ only; in the columns of an asset one sees it everywhere."""
    graph = definitions.get_repository_def().asset_graph
    columns = {c.name: c for c in node_of(definitions, spec).metadata["dagster/column_schema"].columns}
    for target, view, source in spec.lineage():
        assert f"[{view}.{source}](/assets/redshift/{view})" in columns[target].description.replace("&#8203;", "")
        schema = graph.get(dg.AssetKey(["redshift", view])).metadata["dagster/column_schema"]
        [column] = [c for c in schema.columns if c.name == source]
        name = spec.table.name
        assert f"[{name}.{target}](/assets/quper/{name})" in column.description.replace("&#8203;", "")


@SPECS
def test_an_asset_links_to_its_code(definitions: dg.Definitions, build: Build, spec: SyncSpec) -> None:
    [here] = node_of(definitions, spec).metadata["dagster/code_references"].code_references
    assert f'sync_job_id="{spec.sync_job_id}"' in Path(here.file_path).read_text("utf-8")
    elsewhere = build(CODE_URL="https://github.com/acme/qupersync/tree/main/")
    [there] = node_of(elsewhere, spec).metadata["dagster/code_references"].code_references
    path = f"qupersync_assets/sync_jobs/{Path(here.file_path).name}"
    assert there.url == f"https://github.com/acme/qupersync/tree/main/{path}"
    assert (PACKAGE.parent / path).is_file()


@SPECS
def test_rows_and_source_are_checked_without_blocking(definitions: dg.Definitions, spec: SyncSpec) -> None:
    checks = {check.name: check for check in node_of(definitions, spec).assets_def.check_specs}
    assert {"no_skipped_rows", "source_schema"} <= checks.keys()
    for check in checks.values():
        assert check.asset_key == dg.AssetKey(["quper", spec.table.name])
        assert check.description and not check.blocking


@SPECS
def test_an_asset_is_retried_with_growing_delays(definitions: dg.Definitions, spec: SyncSpec) -> None:
    policy = node_of(definitions, spec).assets_def.op.retry_policy
    assert policy.max_retries == 3 and policy.delay > 0
    assert policy.backoff is dg.Backoff.EXPONENTIAL
    assert policy.jitter is not None


@pytest.mark.parametrize(
    ("interval", "warn", "fail"), [(300, 600, 900), (5400, 10800, 16200), (30, 60, 90), (10, 60, None)]
)
def test_freshness_is_two_and_three_intervals(build: Build, interval: int, warn: int, fail: int | None) -> None:
    definitions = build(SYNC_INTERVAL=str(interval))
    for spec in default_specs():
        policy = node_of(definitions, spec).freshness_policy
        assert policy.warn_window.to_timedelta() == timedelta(seconds=warn)
        late = policy.fail_window.to_timedelta()
        assert late == timedelta(seconds=fail) if fail else late > timedelta(seconds=warn)


def test_one_job_has_the_assets_of_all_sync_jobs(definitions: dg.Definitions) -> None:
    repository = definitions.get_repository_def()
    job = repository.get_job("qupersync_main")
    assert set(job.asset_layer.executable_asset_keys) == {
        dg.AssetKey(["quper", spec.table.name]) for spec in default_specs()
    }
    others = set(repository.asset_graph.materializable_asset_keys) - set(job.asset_layer.executable_asset_keys)
    assert others == {HEALTH_KEY}  # it has a job of its own, so that a failed sync does not skip it


@SPECS
def test_each_asset_has_a_job_of_its_own(definitions: dg.Definitions, spec: SyncSpec) -> None:
    job = definitions.get_repository_def().get_job(spec.sync_job_id)
    assert set(job.asset_layer.executable_asset_keys) == {dg.AssetKey(["quper", spec.table.name])}
    assert job.description
    assert job.tags["qupersync/cluster"] == "default" and job.tags["qupersync/trigger"] == "manual"


def test_no_password_is_shown(definitions: dg.Definitions) -> None:
    shown = serialize_value(RepositorySnap.from_def(definitions.get_repository_def()))
    shown += repr(definitions.resources) + repr(definitions)
    for password in PASSWORDS.values():
        assert password not in shown


def imported(path: Path) -> set[str]:
    """Full names of what a file of the package imports, wherever in the file."""
    package = path.relative_to(PACKAGE.parent).parent.parts
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level] if node.level else ()
            module = ".".join([*base, *([node.module] if node.module else [])])
            names |= {module} | {f"{module}.{alias.name}" for alias in node.names}
    return names


def test_the_product_does_not_need_the_sandbox() -> None:
    sandbox = "qupersync_assets.sandbox"
    product = [p for p in PACKAGE.rglob("*.py") if p.relative_to(PACKAGE).parts[0] != "sandbox"]
    assert len(product) > 20
    guilty = [p.name for p in product if any(f"{n}.".startswith(f"{sandbox}.") for n in imported(p))]
    assert guilty == []


def test_run_configuration_cannot_change_a_resource(definitions: dg.Definitions) -> None:
    jobs = definitions.get_repository_def().get_all_jobs()
    keys = set(definitions.resources or ())
    assert {"redshift", "postgres", "postgres_io_manager"} <= keys
    for job in jobs:
        for key in keys & set(job.resource_defs):
            with pytest.raises(dg.DagsterInvalidConfigError):
                dg.validate_run_config(job, {"resources": {key: {"config": {"host": "elsewhere"}}}})
