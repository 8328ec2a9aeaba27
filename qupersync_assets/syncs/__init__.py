"""The registry: every module beside this one that has a SPEC is a sync job."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from qupersync_assets.spec import SyncSpec


@cache
def all_specs() -> tuple[SyncSpec, ...]:
    """All sync jobs, sorted by sync_job_id.

    Raises:
        ValueError: two modules have one sync_job_id.
    """
    specs: dict[str, SyncSpec] = {}
    for module in pkgutil.iter_modules(__path__):
        spec: SyncSpec = importlib.import_module(f"{__name__}.{module.name}").SPEC
        if spec.sync_job_id in specs:
            raise ValueError(f"sync_job_id {spec.sync_job_id!r} stands in two modules of {__name__}")
        specs[spec.sync_job_id] = spec
    return tuple(specs[job] for job in sorted(specs))
