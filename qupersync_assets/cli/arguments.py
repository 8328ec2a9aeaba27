"""Arguments of the command line: jobs, clusters, durations, points in time."""

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


def parse_duration(text: str) -> timedelta:
    """Parse a duration such as 90s, 15m, 2h, 7d, 4w or 1d12h; other text is a BadParameter."""
    normalized = text.strip().lower()
    if not _DURATION.fullmatch(normalized):
        raise typer.BadParameter(f"{text!r} is not a duration. Examples: 90s, 15m, 2h, 7d, 4w, 1d12h.")
    try:
        parts = re.findall(r"(\d+)([smhdw])", normalized)
        return sum((timedelta(**{_UNITS[unit]: int(count)}) for count, unit in parts), timedelta())
    except OverflowError:
        raise typer.BadParameter(f"{text!r} is too long.") from None


def parse_time(text: str) -> datetime:
    """Parse a time in ISO 8601, by default in UTC, or a duration before now; other text is a BadParameter."""
    if _DURATION.fullmatch(text.strip().lower()):
        try:
            return datetime.now(UTC) - parse_duration(text)
        except OverflowError:
            raise typer.BadParameter(f"{text!r} is too long ago.") from None
    try:
        time = datetime.fromisoformat(text.strip())
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is neither an ISO 8601 time, such as 2026-11-24 or 2026-11-24T12:00Z, nor a duration "
            "before now, such as 2h or 7d."
        ) from None
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def select_jobs(names: Sequence[str] | None, on: Sequence[SyncSpec]) -> list[SyncSpec]:
    """Return those of the jobs `on` with these names (sync_job_id or table), all without names; an unknown name, and
    that of a job that is off, is a CommandError."""
    from qupersync_assets.sync_jobs import all_specs

    specs = all_specs()
    named = {name: spec for spec in specs for name in (spec.sync_job_id, spec.table.name, spec.table.fullname)}
    if unknown := [name for name in names or () if name not in named]:
        known = "\n".join(f"  {spec.sync_job_id:22}{spec.table.fullname}" for spec in specs)
        raise CommandError(f"There is no job {', '.join(unknown)}. Jobs and their tables:\n{known}", exit_code=2)
    selected = {named[name].sync_job_id: named[name] for name in names or ()}
    if off := [job for job, spec in selected.items() if spec not in on]:
        raise CommandError(f"{', '.join(off)} is off: add it to SYNC_JOBS.", exit_code=2)
    return list(selected.values()) or list(on)


def select_clusters(settings: Settings, names: Sequence[str] | None) -> list[str]:
    """Return the clusters with these names, all without names; an unknown one is a CommandError."""
    known = list(settings.by_cluster())
    if unknown := sorted(set(names or ()) - set(known)):
        text = f"There is no cluster {', '.join(unknown)}. Clusters in the settings: {', '.join(known)}."
        raise CommandError(text, exit_code=2)
    return [name for name in known if not names or name in names]
