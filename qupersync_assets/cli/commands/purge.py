"""`qupersync purge`: delete old rows and runs."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from qupersync_assets.cli.arguments import parse_duration
from qupersync_assets.cli.console import (
    CommandError,
    Json,
    exit_on_errors,
    format_duration,
    note,
    out,
    plain_table,
    print_json,
)

if TYPE_CHECKING:
    import dagster as dg
    from rich.console import Console

    from qupersync_assets.settings import Settings

DAY = timedelta(days=1)
# Redshift holds seven days: the next sync would load younger rows again.
MIN_HISTORY_AGE = 8 * DAY


class Ages(NamedTuple):
    """Minimum age of what is deleted.

    Attributes:
        logs: of the bookkeeping tables.
        runs: of Dagster's runs.
        history: of the history tables; None keeps all rows.
    """

    logs: timedelta
    runs: timedelta
    history: timedelta | None


class Old(NamedTuple):
    """The number of rows of a kind that are older than an age."""

    what: str
    age: timedelta
    rows: int


def purge(
    older_than: Annotated[
        timedelta | None,
        typer.Option(
            parser=parse_duration,
            metavar="DURATION",
            help="Age, instead of SYNC_LOG_RETENTION_DAYS and DAGSTER_RUN_RETENTION_DAYS: 30d, 12w ...",
        ),
    ] = None,
    with_history: Annotated[
        bool, typer.Option("--with-history", help="Also delete history rows older than --older-than.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count, delete nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Delete without asking.")] = False,
    as_json: Json = False,
) -> None:
    """Delete old rows of quper.sync_logs and quper.skipped_rows, and Dagster's old runs with their events,
    like the daily job qupersync_maintenance.

    Rows of history tables are deleted only if QUPER_RETENTION_DAYS is set, or with --with-history. The last
    success of each job and the last 100 runs are kept. Asks before it deletes; in a pipe it needs --yes.
    """
    with exit_on_errors(as_json):
        from qupersync_assets.defs.instance import configured_instance
        from qupersync_assets.settings import Settings

        _check_options(older_than, with_history, dry_run, yes)
        settings = Settings.load()
        history = older_than if with_history else None
        ages = Ages(
            older_than or settings.sync_log_retention_days * DAY,
            older_than or settings.dagster_run_retention_days * DAY,
            history or (settings.quper_retention_days * DAY if settings.quper_retention_days else None),
        )
        with configured_instance(settings) as instance:
            if instance is None:
                note("DAGSTER_HOME is not set: Dagster's runs are kept.")
            found = _purge(settings, ages, instance, dry_run=True)
            deletes = not dry_run and any(old.rows for old in found)
            if deletes and not yes:
                _print(found, out(stderr=True))
                if not typer.confirm("Delete them?", err=True):
                    raise CommandError("Nothing was deleted.")
            if deletes:
                found = _purge(settings, ages, instance, dry_run=False)
        if as_json:
            rows = [{"what": o.what, "older_than": o.age.total_seconds(), "rows": o.rows} for o in found]
            print_json({"deleted": not dry_run, "old": rows})
        else:
            _print(found, out())
            out().print("Deleted." if deletes else "Nothing was deleted.")


def _check_options(older_than: timedelta | None, with_history: bool, dry_run: bool, yes: bool) -> None:
    least = MIN_HISTORY_AGE if with_history else DAY
    if dry_run and yes:
        text = "--dry-run and --yes exclude each other."
    elif with_history and older_than is None:
        text = "--with-history needs --older-than DURATION."
    elif older_than is not None and older_than < least:
        why = ": Redshift holds seven days, younger rows would be loaded again" if with_history else ""
        text = f"--older-than must be {least.days}d or more{why}."
    elif not (dry_run or yes or _is_terminal()):
        text = "Not a terminal: cannot ask for confirmation. Use --yes to delete, or --dry-run to count."
    else:
        return
    raise CommandError(text, exit_code=2)


def _is_terminal() -> bool:
    return sys.stdin.isatty()


def _purge(
    settings: Settings, ages: Ages, instance: dg.DagsterInstance | None, *, dry_run: bool
) -> list[Old]:
    from qupersync_assets.defs.resources import postgres_resource
    from qupersync_assets.defs.retention_job import purge_runs
    from qupersync_assets.postgres.job_status import is_usable
    from qupersync_assets.postgres.retention import purge_history, purge_logs
    from qupersync_assets.sync_jobs import all_specs

    postgres, specs = postgres_resource(settings), all_specs()
    kinds: list[tuple[timedelta, dict[str, int]]] = []
    if is_usable(postgres):
        logs, history = Counter[str](), Counter[str]()
        for cluster in settings.by_cluster():
            logs.update(purge_logs(postgres, cluster, ages.logs / DAY, dry_run=dry_run))
            days = ages.history / DAY if ages.history else None
            history.update(purge_history(postgres, cluster, specs, days, dry_run=dry_run))
        kinds += [(ages.logs, logs), (ages.history or DAY, history)]
    if instance:
        kinds.append((ages.runs, purge_runs(instance, specs, ages.runs / DAY, dry_run=dry_run)))
    return [Old(what, age, count) for age, counts in kinds for what, count in counts.items()]


def _print(found: Sequence[Old], console: Console) -> None:
    table = plain_table(("what", "older than", "rows"), ("older than", "rows"))
    for old in found:
        table.add_row(old.what, format_duration(old.age), f"{old.rows:,}")
    console.print(table)
