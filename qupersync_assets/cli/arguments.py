"""What people write on the command line: jobs, durations, points in time."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import typer

from qupersync_assets.cli.console import CommandError

if TYPE_CHECKING:
    from qupersync_assets.settings import Settings
    from qupersync_assets.spec import SyncSpec

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_DURATION = re.compile(r"(?:\d+[smhdw])+")


def duration(text: str) -> timedelta:
    """A time span such as 90s, 15m, 2h, 7d, 4w or 1d12h.

    Raises:
        typer.BadParameter: it is none, or too long.
    """
    written = text.strip().lower()
    if not _DURATION.fullmatch(written):
        raise typer.BadParameter(
            f"{text!r} is no duration; allowed is one such as 90s, 15m, 2h, 7d, 4w or 1d12h."
        )
    try:
        parts = re.findall(r"(\d+)([smhdw])", written)
        return sum((timedelta(**{_UNITS[unit]: int(count)}) for count, unit in parts), timedelta())
    except OverflowError:
        raise typer.BadParameter(f"{text!r} is too long.") from None


def moment(text: str) -> datetime:
    """A point in time in ISO 8601, in UTC if it names no time zone, or how long ago.

    Raises:
        typer.BadParameter: it is neither.
    """
    if _DURATION.fullmatch(text.strip().lower()):
        try:
            return datetime.now(UTC) - duration(text)
        except OverflowError:
            raise typer.BadParameter(f"{text!r} is too long ago.") from None
    try:
        time = datetime.fromisoformat(text.strip())
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is no time; allowed is ISO 8601 such as 2026-11-24 or 2026-11-24T12:00Z, or how long "
            "ago, such as 2h or 7d."
        ) from None
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def chosen(names: Sequence[str] | None) -> list[SyncSpec]:
    """The sync jobs of these names, sync_job_id or table; all of them if none is named.

    Raises:
        CommandError: a name is of no job.
    """
    from qupersync_assets.sync_jobs import all_specs

    specs = all_specs()
    if not names:
        return list(specs)
    by_name = {}
    for spec in specs:
        by_name.update(dict.fromkeys((spec.sync_job_id, spec.table.name, spec.table.fullname), spec))
    unknown = [name for name in names if name not in by_name]
    if unknown:
        known = "\n".join(f"  {spec.sync_job_id:22}{spec.table.fullname}" for spec in specs)
        raise CommandError(
            f"There is no job {', '.join(unknown)}. Jobs, and their tables:\n{known}", exit_code=2
        )
    return list({by_name[name].sync_job_id: by_name[name] for name in names}.values())


def chosen_clusters(settings: Settings, names: Sequence[str] | None) -> list[str]:
    """The clusters of these names; all of the settings if none is named.

    Raises:
        CommandError: a name is of no cluster.
    """
    known = list(settings.by_cluster())
    unknown = sorted(set(names or ()) - set(known))
    if unknown:
        text = f"There is no cluster {', '.join(unknown)}; the settings name {', '.join(known)}."
        raise CommandError(text, exit_code=2)
    return [name for name in known if not names or name in names]
