"""`qupersync purge`: delete old rows and runs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from qupersync_assets.cli.arguments import parse_duration
from qupersync_assets.cli.console import CommandError, Json, exit_on_errors, note, out, print_block, print_json
from qupersync_assets.cli.summary import plain_table
from qupersync_assets.core.durations import format_duration

if TYPE_CHECKING:
    from qupersync_assets.settings import Settings

DAY = timedelta(days=1)
# Redshift holds seven days: the next sync would load younger rows again.
MIN_HISTORY_AGE = 8 * DAY

# Kind of row, age in days, number.
Counts = list[tuple[str, float, int]]


def purge(
    older_than: Annotated[
        timedelta | None,
        typer.Option(
            parser=parse_duration,
            metavar="DURATION",
            help="Age of what is deleted, instead of SYNC_LOG_RETENTION_DAYS and DAGSTER_RUN_RETENTION_DAYS: 30d, 12w.",
        ),
    ] = None,
    with_history: Annotated[
        bool, typer.Option("--with-history", metavar="", help="Also delete history rows older than --older-than.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", metavar="", help="Only count, delete nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", metavar="", help="Delete without asking.")] = False,
    as_json: Json = False,
) -> None:
    """Delete old rows of quper.sync_logs and quper.skipped_rows, and Dagster's old runs with their events,
    like the daily job qupersync_maintenance.

    Rows of history tables are deleted only if QUPER_RETENTION_DAYS is set, or with --with-history. Rows of daily
    tables are deleted only if QUPER_DAILY_RETENTION_DAYS is set. The last success of each job and the last 100 runs
    are kept. Asks before it deletes; without a terminal it needs --yes.
    """
    with exit_on_errors(as_json):
        from qupersync_assets.postgres.job_status import is_usable
        from qupersync_assets.postgres.resource import postgres_resource
        from qupersync_assets.settings import Settings
        from qupersync_assets.sync.purge import purge_target
        from qupersync_assets.sync_jobs import all_specs

        _check_options(older_than, with_history, dry_run, yes)
        settings = Settings.load(logins=False)
        postgres = postgres_resource(settings)
        days = older_than / DAY if older_than else None
        with _runs(settings, days or settings.dagster_run_retention_days) as purge_runs:

            def count(*, dry_run: bool) -> Counts:
                found: Counts = []
                if is_usable(postgres):
                    found = purge_target(
                        postgres,
                        all_specs(),
                        log_days=days or settings.sync_log_retention_days,
                        history_days=(days if with_history else None) or settings.quper_retention_days,
                        daily_days=settings.quper_daily_retention_days,
                        dry_run=dry_run,
                    )
                return found + purge_runs(dry_run=dry_run)

            found = count(dry_run=True)
            deletes = not dry_run and any(number for _, _, number in found)
            if deletes and not yes:
                _print(found, out(stderr=True))
                if not typer.confirm("Delete them?", err=True):
                    raise CommandError("Nothing was deleted.")
            if deletes:
                found = count(dry_run=False)
        if as_json:
            old = [{"what": kind, "older_than": age * DAY.total_seconds(), "rows": rows} for kind, age, rows in found]
            print_json({"deleted": not dry_run, "old": old})
        else:
            _print(found, out())
            out().print("Deleted." if deletes else "Nothing was deleted.")


@contextmanager
def _runs(settings: Settings, days: float) -> Iterator[Callable[..., Counts]]:
    """Yield a function that deletes, or counts, old runs of the Dagster instance; without one there are none."""
    from qupersync_assets.sync.dagster_state import find_home

    if find_home() is None:
        note("DAGSTER_HOME is not set: Dagster's runs are kept.")
        yield lambda *, dry_run: []
        return
    from qupersync_assets.defs.instance import configured_instance
    from qupersync_assets.defs.retention_job import purge_runs
    from qupersync_assets.sync_jobs import all_specs

    with configured_instance(settings) as instance:
        assert instance is not None  # noqa: S101 (there is a home)

        def purge(*, dry_run: bool) -> Counts:
            runs = purge_runs(instance, all_specs(), days, dry_run=dry_run)
            return [(kind, days, number) for kind, number in runs.items()]

        yield purge


def _check_options(older_than: timedelta | None, with_history: bool, dry_run: bool, yes: bool) -> None:
    least = MIN_HISTORY_AGE if with_history else DAY
    if dry_run and yes:
        text = "--dry-run and --yes cannot be used together."
    elif with_history and older_than is None:
        text = "--with-history needs --older-than DURATION."
    elif older_than is not None and older_than < least:
        why = ": Redshift keeps seven days, so the next sync would load younger rows again" if with_history else ""
        text = f"--older-than must be {least.days}d or more{why}."
    elif not (dry_run or yes or _is_terminal()):
        text = "Not a terminal: cannot ask for confirmation. Use --yes to delete, or --dry-run to count."
    else:
        return
    raise CommandError(text, exit_code=2)


def _is_terminal() -> bool:
    return sys.stdin.isatty()


def _print(counts: Counts, console: Console) -> None:
    table = plain_table(("what", "older than", "rows"), ("older than", "rows"))
    for kind, age, number in counts:
        table.add_row(kind, format_duration(age * DAY), f"{number:,}")
    print_block(console, table)
