"""The end of the demo's start: the past of its target, the worst findings, and the health page."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import sqlalchemy as sa
from rich.console import Console

from qupersync_assets.core.errors import SyncError
from qupersync_assets.defs.job_choice import jobs_by_cluster
from qupersync_assets.defs.resources import postgres_resource
from qupersync_assets.health.evaluation import evaluate
from qupersync_assets.health.options import HealthOptions
from qupersync_assets.health.report import render
from qupersync_assets.sandbox import Sandbox
from qupersync_assets.sandbox.workload.past import write_past
from qupersync_assets.settings import Settings

WORST = 3
_WORST = """
SELECT severity, title, object FROM quper.health_open
ORDER BY severity_rank, priority DESC, since, object LIMIT :n"""


def show_health(sandbox: Sandbox, settings: Settings, page: Path, console: Console) -> None:
    """Write the past of a new target, evaluate its health, write the page, and print both.

    Raises:
        SyncError: PostgreSQL cannot be reached.
    """
    with closing(sandbox.connect_quper()) as connection, connection, connection.cursor() as cursor:
        write_past(cursor)
    postgres = postgres_resource(settings)
    ((cluster, specs),) = jobs_by_cluster(settings).items()
    evaluate(postgres, cluster, HealthOptions([spec.sync_job_id for spec in specs]), always=True)
    with postgres.transaction() as connection:
        worst = connection.execute(sa.text(_WORST), {"n": WORST}).all()
    console.print("\nFix first:")
    for severity, title, object_ in worst:
        console.print(f"  {severity}: {title}: {object_}", soft_wrap=True, markup=False, highlight=False)
    try:
        page.write_text(render(postgres, [cluster]), "utf-8")
    except SyncError as error:  # the extra `report` is not installed
        console.print(f"  {error}", soft_wrap=True, markup=False, highlight=False)
    else:
        console.print(f"All findings, with plots: {page.resolve().as_uri()}", soft_wrap=True, markup=False)
