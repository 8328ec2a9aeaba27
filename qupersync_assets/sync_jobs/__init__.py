"""The registry: every module beside this one that has a SPEC is a sync job."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from pathlib import Path

from qupersync_assets.spec import SyncSpec


@cache
def _modules() -> dict[str, tuple[SyncSpec, Path]]:
    """Each sync job and the file that it is in, by sync_job_id."""
    found: dict[str, tuple[SyncSpec, Path]] = {}
    for info in pkgutil.iter_modules(__path__):
        module = importlib.import_module(f"{__name__}.{info.name}")
        spec: SyncSpec = module.SPEC
        if spec.sync_job_id in found:
            raise ValueError(f"sync_job_id {spec.sync_job_id!r} stands in two modules of {__name__}")
        found[spec.sync_job_id] = spec, Path(str(module.__file__))
    return found


@cache
def all_specs() -> tuple[SyncSpec, ...]:
    """All sync jobs, sorted by sync_job_id.

    Raises:
        ValueError: two modules have one sync_job_id.
    """
    return tuple(spec for _, (spec, _) in sorted(_modules().items()))


def file_of(spec: SyncSpec) -> Path:
    """The file in which a sync job is defined."""
    return _modules()[spec.sync_job_id][1]
