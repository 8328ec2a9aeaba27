"""A tag says in the list of runs that a check has an error.

The rows of a load are committed before its checks are evaluated, so the run succeeds.
"""

from collections.abc import Sequence

import dagster as dg

from qupersync_assets.defs.names import CHECK_ERROR_TAG
from qupersync_assets.spec import SyncSpec

# Steps of a run that add their tags at the same moment overwrite each other's.
_ATTEMPTS = 5


def tag_check_errors(context: dg.AssetExecutionContext, spec: SyncSpec, results: Sequence[dg.AssetCheckResult]) -> None:
    """Add a tag to the run if checks of a job have an error, and write them to the log of the run."""
    errors = [result for result in results if not result.passed and result.severity is dg.AssetCheckSeverity.ERROR]
    for result in errors:
        context.log.error(f"{spec.sync_job_id}, check {result.check_name}: {result.description}")
    tag = {CHECK_ERROR_TAG + spec.sync_job_id: ", ".join(str(result.check_name) for result in errors)}
    for _ in range(_ATTEMPTS if errors else 0):
        context.instance.add_run_tags(context.run.run_id, tag)
        run = context.instance.get_run_by_id(context.run.run_id)
        if run is None or tag.items() <= run.tags.items():
            return
