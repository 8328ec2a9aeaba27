"""Arguments of the command line: jobs, clusters, durations, points in time."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from enum import Enum
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from qupersync_assets.cli.console import CommandError


def complete_jobs(incomplete: str) -> list[str]:
    """Return the jobs whose sync_job_id begins with a text, for completion in a shell."""
    from qupersync_assets.sync_jobs import all_specs

    return [spec.sync_job_id for spec in all_specs() if spec.sync_job_id.startswith(incomplete)]


def complete_clusters(incomplete: str) -> list[str]:
    """Return the clusters of the settings whose names begin with a text, for completion in a shell."""
    from qupersync_assets.core.environment import EnvFileError, load_env_file
    from qupersync_assets.settings import Settings, SettingsError

    try:
        load_env_file()
        return [name for name in Settings.load(logins=False).by_cluster() if name.startswith(incomplete)]
    except (EnvFileError, SettingsError):
        return []


Cluster = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME", help="Only this cluster; repeatable.", autocompletion=complete_clusters),
]

if TYPE_CHECKING:
    from qupersync_assets.settings import Settings
    from qupersync_assets.spec import SyncSpec

_Choice = TypeVar("_Choice", bound=Enum)
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_DURATION = re.compile(r"(?:\d+[smhdw])+")


def one_of(choices: type[_Choice]) -> Callable[[str], _Choice]:
    """Return a parser of the values of an enumeration; other text is a BadParameter."""

    def parse(text: str) -> _Choice:
        try:
            return choices(text)
        except ValueError:
            known = [str(choice.value) for choice in choices]
            allowed = f"{', '.join(known[:-1])} or {known[-1]}"
            raise typer.BadParameter(f"{text!r} is not {allowed}.{_similar(text, known)}") from None

    return parse


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
        width = max(len(spec.sync_job_id) for spec in specs) + 2
        known = "\n".join(f"  {spec.sync_job_id:{width}}{spec.table.fullname}" for spec in specs)
        text = f"There is no job {', '.join(unknown)}.{_similar(unknown[0], named)} Jobs and their tables:"
        raise CommandError(f"{text}\n{known}", exit_code=2)
    selected = {named[name].sync_job_id: named[name] for name in names or ()}
    if off := [job for job, spec in selected.items() if spec not in on]:
        raise CommandError(f"{', '.join(off)} is off: add it to SYNC_JOBS.", exit_code=2)
    return list(selected.values()) or list(on)


def select_clusters(settings: Settings, names: Sequence[str] | None) -> list[str]:
    """Return the clusters with these names, all without names; an unknown one is a CommandError."""
    known = list(settings.by_cluster())
    if unknown := sorted(set(names or ()) - set(known)):
        similar = _similar(unknown[0], known)
        text = f"There is no cluster {', '.join(unknown)}.{similar} Clusters in the settings: {', '.join(known)}."
        raise CommandError(text, exit_code=2)
    return [name for name in known if not names or name in names]


def _similar(name: str, known: Iterable[str]) -> str:
    """Return a question about the known name that is most similar to another one; nothing if none is."""
    found = get_close_matches(name, list(known), 1)
    return f" Did you mean {found[0]}?" if found else ""
