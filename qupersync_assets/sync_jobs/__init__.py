"""The registry of sync jobs: each module of this package defines one as SPEC."""

import importlib
import pkgutil
from functools import cache
from pathlib import Path

from qupersync_assets.spec import SyncSpec


@cache
def _modules() -> dict[str, tuple[SyncSpec, Path]]:
    """Return each sync job and its file, by sync_job_id."""
    found: dict[str, tuple[SyncSpec, Path]] = {}
    for info in pkgutil.iter_modules(__path__):
        module = importlib.import_module(f"{__name__}.{info.name}")
        spec: SyncSpec = module.SPEC
        if spec.sync_job_id in found:
            raise ValueError(f"sync_job_id {spec.sync_job_id!r} is defined in two modules of {__name__}")
        found[spec.sync_job_id] = spec, Path(str(module.__file__))
    return found


@cache
def all_specs() -> tuple[SyncSpec, ...]:
    """Return all sync jobs, sorted by sync_job_id, or raise a ValueError if two modules define the same."""
    return tuple(spec for _, (spec, _) in sorted(_modules().items()))


def default_specs() -> tuple[SyncSpec, ...]:
    """Return the sync jobs that are on by default, sorted by sync_job_id."""
    return tuple(spec for spec in all_specs() if not spec.optional)


def spec_of(sync_job_id: str) -> SyncSpec:
    """Return the spec of a job."""
    return _modules()[sync_job_id][0]


def file_of(spec: SyncSpec) -> Path:
    """Return the file that defines a sync job."""
    return _modules()[spec.sync_job_id][1]
