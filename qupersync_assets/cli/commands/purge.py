"""`qupersync purge`: what the daily maintenance job does, on demand."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from qupersync_assets.cli.arguments import chosen, duration
from qupersync_assets.cli.console import (
    CommandError,
    Json,
    note,
    out,
    plain_table,
    print_json,
    reported,
    short,
)

if TYPE_CHECKING:
    import dagster as dg
    from rich.console import Console

    from qupersync_assets.settings import Settings

DAY = timedelta(days=1)
# Redshift holds seven days: what is younger would come back with the next read.
LEAST_HISTORY = 8 * DAY


def purge(
    older_than: Annotated[
        timedelta | None,
        typer.Option(
            parser=duration,
            metavar="DURATION",
            help="Age in place of SYNC_LOG_RETENTION_DAYS and DAGSTER_RUN_RETENTION_DAYS: 30d, 12w ...",
        ),
    ] = None,
    with_history: Annotated[
        bool, typer.Option("--with-history", help="Let --older-than hold for QUPER_RETENTION_DAYS too.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count what would be deleted.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Delete without asking.")] = False,
    as_json: Json = False,
) -> None:
    """Delete what is old, as the job qupersync_maintenance does daily: rows of quper.sync_logs and
    quper.skipped_rows, and Dagster's runs with their events.

    Rows of the history tables are deleted only if QUPER_RETENTION_DAYS is set, or with --with-history. Each
    job's last success stays, and the last 100 runs. Asks before it deletes; in a pipe it needs --yes.
    """
    with reported(as_json):
        from qupersync_assets.defs.instance import configured_instance
        from qupersync_assets.settings import Settings

        _check(older_than, with_history, dry_run, yes)
        settings = Settings.load()
        history = older_than if with_history else None
        ages = Ages(
            older_than or settings.sync_log_retention_days * DAY,
            older_than or settings.dagster_run_retention_days * DAY,
            history or (settings.quper_retention_days * DAY if settings.quper_retention_days else None),
        )
        with configured_instance(settings) as instance:
            if instance is None:
                note("DAGSTER_HOME is not set: Dagster's runs stay.")
            found = list(_purge(settings, ages, instance, dry_run=True))
            deletes = not dry_run and any(old.rows for old in found)
            if deletes and not yes:
                _print(found, out(stderr=True))
                if not typer.confirm("Delete them?", err=True):
                    raise CommandError("Nothing was deleted.")
            if deletes:
                found = list(_purge(settings, ages, instance, dry_run=False))
        if as_json:
            rows = [{"what": o.what, "older_than": o.age.total_seconds(), "rows": o.rows} for o in found]
            print_json({"deleted": not dry_run, "old": rows})
        else:
            _print(found, out())
            out().print("Nothing was deleted." if dry_run or not deletes else "Deleted.")


class Ages(NamedTuple):
    """How old must be what is deleted: of the two bookkeeping tables, Dagster's runs, and the history tables;
    None keeps all."""

    books: timedelta
    runs: timedelta
    history: timedelta | None


class Old(NamedTuple):
    """How many of what are older than that."""

    what: str
    age: timedelta
    rows: int


def _check(older_than: timedelta | None, with_history: bool, dry_run: bool, yes: bool) -> None:
    if dry_run and yes:
        raise CommandError("--dry-run and --yes exclude each other.", exit_code=2)
    if with_history and older_than is None:
        raise CommandError("--with-history needs --older-than DURATION.", exit_code=2)
    least = LEAST_HISTORY if with_history else DAY
    if older_than is not None and older_than < least:
        why = ", as Redshift holds seven days and would give younger rows again" if with_history else ""
        raise CommandError(f"--older-than has to be {least.days}d or more{why}.", exit_code=2)
    if not (dry_run or yes or _can_ask()):
        raise CommandError(
            "Nobody can be asked here: add --yes to delete, or --dry-run to count.", exit_code=2
        )


def _can_ask() -> bool:
    return sys.stdin.isatty()


def _purge(
    settings: Settings, ages: Ages, instance: dg.DagsterInstance | None, *, dry_run: bool
) -> Iterator[Old]:
    from qupersync_assets.defs.resources import postgres_resource
    from qupersync_assets.defs.retention_job import purge_runs
    from qupersync_assets.postgres.job_status import is_usable
    from qupersync_assets.postgres.retention import purge_history, purge_logs

    postgres, specs = postgres_resource(settings), chosen(None)
    kinds: list[tuple[timedelta, dict[str, int]]] = []
    if is_usable(postgres):
        books, history = Counter[str](), Counter[str]()
        for cluster in settings.by_cluster():
            books.update(purge_logs(postgres, cluster, ages.books / DAY, dry_run=dry_run))
            days = ages.history / DAY if ages.history else None
            history.update(purge_history(postgres, cluster, specs, days, dry_run=dry_run))
        kinds += [(ages.books, books), (ages.history or DAY, history)]
    if instance:
        kinds.append((ages.runs, purge_runs(instance, specs, ages.runs / DAY, dry_run=dry_run)))
    for age, counts in kinds:
        yield from (Old(what, age, count) for what, count in counts.items())


def _print(found: Sequence[Old], console: Console) -> None:
    table = plain_table(("what", "older than", "rows"), ("older than", "rows"))
    for old in found:
        table.add_row(old.what, short(old.age), f"{old.rows:,}")
    console.print(table)
