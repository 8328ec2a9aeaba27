"""A launch configures nothing but harmless options: no host, no secret, no variable, no file, in any job."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import dagster as dg
import pytest

from qupersync_assets.definitions import build_code_location
from qupersync_assets.defs.names import ASSET_JOB, HEALTH_NAME
from qupersync_assets.settings import Settings
from qupersync_assets.sync_jobs import all_specs
from qupersync_assets_tests.unit.conftest import TWO_CLUSTERS, Load
from qupersync_assets_tests.unit.defs.test_executors import CELERY, PODS

ALL_JOBS = {"SYNC_JOBS": ",".join(spec.sync_job_id for spec in all_specs())}
# Paths, with * for a name, and the types of their values.
HARMLESS = {
    ("loggers.console.config.log_level", "String"),
    ("loggers.console.config.name", "String"),
    ("ops.*.config.full_refresh", "Bool"),
}


def open_options(kind: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield the path and the type of each value that a run configuration may have.

    The job of selected assets ignores the names of other ops and resources.
    """
    if kind.kind.name == "STRICT_SHAPE" or (kind.kind.name == "PERMISSIVE_SHAPE" and path in ("ops", "resources")):
        for name, field in kind.fields.items():
            star = "*" if path == "ops" else name
            yield from open_options(field.config_type, f"{path}.{star}" if path else name)
    else:  # a value, or a type that takes anything, such as Any, Permissive and {env: NAME}
        yield path, kind.key


def jobs(settings: Settings) -> list[dg.JobDefinition]:
    return list(build_code_location(settings).get_repository_def().get_all_jobs())


@pytest.mark.parametrize(
    "variables",
    [
        ALL_JOBS,
        {"SYNC_EXECUTOR": "in_process"},
        CELERY,
        {"SYNC_EXECUTOR": "k8s", "KUBERNETES_STEP_CONFIG": PODS},
        TWO_CLUSTERS,
        {"SYNC_INTERVAL": "90", "ALERT_URLS": "json://bot:hunter2-of-alerts@127.0.0.1:1"},
    ],
    ids=["all jobs", "in_process", "celery", "k8s", "two clusters", "alerts"],
)
def test_only_harmless_options_are_open_at_launch(load: Load, variables: dict[str, str | None]) -> None:
    found = jobs(load(**variables))
    assert {job.name for job in found} > {"qupersync_main", "qupersync_maintenance", "table_stats_sync"}
    for job in found:
        options = set(open_options(job.run_config_schema.run_config_schema_type))
        assert options <= HARMLESS, job.name
        assert ("ops.*.config.full_refresh", "Bool") in options or job.name in ("qupersync_maintenance", HEALTH_NAME)


ELSEWHERE = {"host": "elsewhere", "ssl": False, "password": {"env": "REDSHIFT_PASSWORD"}}
PASSWORD = {"env": "REDSHIFT_PASSWORD"}


@pytest.mark.parametrize(
    "config",
    [
        *({"resources": {name: {"config": ELSEWHERE}}} for name in ("redshift", "postgres", "postgres_io_manager")),
        {"resources": {"io_manager": {"config": {"base_dir": PASSWORD}}}},
        {"execution": {"config": {"broker": "redis://elsewhere/0", "backend": PASSWORD}}},
        {"execution": {"config": {"job_image": "elsewhere", "env_vars": ["REDSHIFT_HOST=elsewhere"]}}},
        {"execution": {"config": {"max_concurrent": 100}}},
        {"execution": {"config": {"start_method": {"forkserver": {"preload_modules": ["os"]}}}}},
        {"execution": {"in_process": {"config": {}}}},
        {"execution": {"config": {"marker_to_close": "x"}}},
        {"loggers": {"console": {"config": {"name": PASSWORD}}}},
        {"loggers": {"mine": {"config": {}}}},
        {"ops": {"quper__table_stats": {"config": {"full_refresh": PASSWORD}}}},
        {"ops": {"quper__table_stats": {"config": {"host": "elsewhere"}}}},
        {"ops": {"quper__table_stats": {"inputs": {"x": {"value": 1}}}}},
        {"ops": {"purge": {"config": {"host": "elsewhere"}}}},
    ],
    ids=str,
)
def test_a_launch_with_anything_else_is_refused(definitions: dg.Definitions, config: dict[str, Any]) -> None:
    for job in definitions.get_repository_def().get_all_jobs():
        if job.name == ASSET_JOB and "purge" in config.get("ops", {}):
            continue  # ignored
        with pytest.raises(dg.DagsterInvalidConfigError):
            dg.validate_run_config(job, config)
