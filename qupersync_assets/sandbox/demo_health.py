"""The end of the demo's start: the past of its target, the worst findings, and the health page."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from rich.console import Console

from qupersync_assets.cli.health_page import write_page
from qupersync_assets.core.errors import SyncError
from qupersync_assets.health.evaluation import evaluate
from qupersync_assets.health.readers import open_findings
from qupersync_assets.postgres.resource import postgres_resource
from qupersync_assets.sandbox import Sandbox
from qupersync_assets.sandbox.workload.past import write_past
from qupersync_assets.settings import Settings
from qupersync_assets.sync.health_options import options_by_cluster

WORST = 3


def show_health(sandbox: Sandbox, settings: Settings, page: Path, console: Console) -> None:
    """Write the past of a new target, evaluate its health, write the page, and print both.

    Raises:
        SyncError: PostgreSQL cannot be reached.
    """
    with closing(sandbox.connect_quper()) as connection, connection, connection.cursor() as cursor:
        write_past(cursor)
    postgres = postgres_resource(settings)
    ((cluster, options),) = options_by_cluster(settings).items()
    evaluate(postgres, cluster, options, always=True)
    with postgres.transaction() as connection:
        worst = open_findings(connection, [cluster], limit=WORST)
    console.print("\nFix first:")
    for row in worst:
        text = f"  {row['severity']}: {row['title']}: {row['object']}"
        console.print(text, soft_wrap=True, markup=False, highlight=False)
    try:
        write_page(postgres, [cluster], page)
    except SyncError as error:  # the extra `report` is not installed
        console.print(f"  {error}", soft_wrap=True, markup=False, highlight=False)
    else:
        console.print(f"All findings, with plots: {page.resolve().as_uri()}", soft_wrap=True, markup=False)
