"""`qupersync clusters`: what the tables hold of each cluster; rename one, or forget it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qupersync_assets.cli.console import CommandError, Json, exit_on_errors, out, print_block, print_json, print_line
from qupersync_assets.cli.parser import HELP_OPTIONS, Group, Verb
from qupersync_assets.cli.summary import plain_table
from qupersync_assets.core.durations import format_duration

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from qupersync_assets.postgres.resource import PostgresResource
    from qupersync_assets.settings import Settings
    from qupersync_assets.spec import SyncSpec

clusters = typer.Typer(
    cls=Group,
    context_settings=HELP_OPTIONS,
    help="Show the rows of each cluster; rename a cluster, or delete its rows.",
)
Yes = Annotated[bool, typer.Option("--yes", "-y", metavar="", help="Change the tables, not only count.")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the cluster, as in the column `cluster`.")]


@clusters.callback(invoke_without_command=True)
def show(context: typer.Context, as_json: Json = False) -> None:
    """Show the rows of each cluster in the tables, and which clusters the settings name.

    `leftover` are rows of a cluster that no setting names: rename it, forget it, or keep it.
    """
    if context.invoked_subcommand:
        return
    with exit_on_errors(as_json):
        from qupersync_assets.postgres.clusters import StoredCluster, stored_clusters

        settings, postgres = _target()
        stored = {cluster.name: cluster for cluster in stored_clusters(postgres)}
        named = list(settings.by_cluster())
        found = [stored.get(name, StoredCluster(name)) for name in dict.fromkeys([*named, *stored])]
        if as_json:
            print_json(
                {
                    "clusters": [
                        {
                            "cluster": cluster.name,
                            "in_settings": cluster.name in named,
                            "rows": sum(cluster.rows.values()),
                            "rows_by_table": cluster.rows,
                            "size_bytes": cluster.size,
                            "newest_row_at": cluster.newest_row_at,
                            "last_success_at": cluster.last_success_at,
                        }
                        for cluster in found
                    ]
                }
            )
            return
        headings = ("cluster", "in the settings", "rows", "MB", "newest row, ago", "last success, ago")
        table = plain_table(headings, ("rows", "MB"))
        for cluster in found:
            table.add_row(
                cluster.name,
                "yes" if cluster.name in named else "no: leftover",
                f"{sum(cluster.rows.values()):,}",
                f"{cluster.size / 1e6:,.1f}",
                _ago(cluster.newest_row_at),
                _ago(cluster.last_success_at),
                style=None if cluster.name in named else "yellow",
            )
        print_block(out(), table)


@clusters.command(cls=Verb)
def rename(
    old: Annotated[str, typer.Argument(metavar="OLD", help="The current name, as in the column `cluster`.")],
    new: Annotated[str, typer.Argument(metavar="NEW", help="The new name.")],
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Rename a cluster in all tables, in one transaction. Only counts its rows without --yes.

    Rename it in CLUSTER_NAME or CLUSTERS too, before the next sync.
    """
    from qupersync_assets.postgres.clusters import rename_cluster

    with exit_on_errors(as_json):
        if not new.strip() or old == new:
            raise CommandError("The new name must differ from the current one, and must not be empty.", exit_code=2)
        notes = {new: f"The settings do not name {new} yet: set CLUSTER_NAME or CLUSTERS before the next sync."}
        change = partial(rename_cluster, old=old, new=new, dry_run=not yes)
        _change(change, "Renamed", yes, as_json, notes)


@clusters.command(cls=Verb)
def forget(name: Name, yes: Yes = False, as_json: Json = False) -> None:
    """Delete all rows of a cluster from all tables, in one transaction. Only counts them without --yes.

    Dagster's runs and events of the cluster are deleted after DAGSTER_RUN_RETENTION_DAYS.
    """
    from qupersync_assets.postgres.clusters import forget_cluster

    with exit_on_errors(as_json):
        _change(partial(forget_cluster, name=name, dry_run=not yes), "Deleted", yes, as_json, {}, name)


def _target() -> tuple[Settings, PostgresResource]:
    from qupersync_assets.postgres.job_status import is_usable
    from qupersync_assets.postgres.resource import postgres_resource
    from qupersync_assets.settings import Settings

    settings = Settings.load(logins=False)
    postgres = postgres_resource(settings)
    if not is_usable(postgres):
        raise CommandError("There is no schema quper yet: the first sync creates it.")
    return settings, postgres


def _change(
    change: Callable[[PostgresResource, Sequence[SyncSpec]], dict[str, int]],
    done: str,
    yes: bool,
    as_json: bool,
    if_not_named: dict[str, str],
    forgotten: str = "",
) -> None:
    """Change the rows of a cluster, or count them, and print their numbers."""
    from qupersync_assets.sync_jobs import all_specs

    settings, postgres = _target()
    rows = change(postgres, all_specs())
    named = settings.by_cluster()
    notes = [note for name, note in if_not_named.items() if name not in named]
    if forgotten in named:
        notes.append(f"The settings name {forgotten}: the next sync reads again what Redshift still has.")
    result: dict[str, Any] = {"changed": yes, "rows": rows, "notes": notes}
    if as_json:
        print_json(result)
        return
    console = out()
    table = plain_table(("table", "rows"), ("rows",))
    for name, number in rows.items():
        table.add_row(f"quper.{name}", f"{number:,}")
    print_block(console, table)
    print_line(
        console, f"{done}." if yes else "Nothing was changed. Repeat the command with --yes to change the tables."
    )
    for note in notes:
        print_line(console, note, "yellow")


def _ago(time: datetime | None) -> str:
    from datetime import UTC, datetime

    return format_duration(datetime.now(UTC) - time if time else None)
