"""The health of Redshift clusters: signals, and the findings that they make from the tables of schema quper.

Each module of `signals` has the signals of one group, as GROUP.
"""

import importlib
import pkgutil
from functools import cache

from qupersync_assets.health import signals
from qupersync_assets.health.signal import Group, Severity, Signal

__all__ = ["Group", "Severity", "Signal", "all_signals", "group_of", "groups"]


@cache
def groups() -> dict[str, Group]:
    """Return the groups by their id, in the order of their ids, or raise a ValueError if an id is used twice."""
    found = {
        info.name: importlib.import_module(f"{signals.__name__}.{info.name}").GROUP
        for info in pkgutil.iter_modules(signals.__path__)
    }
    ids = [signal.id for group in found.values() for signal in group.signals]
    if twice := {name for name in ids if ids.count(name) > 1}:
        raise ValueError(f"two signals have the id {', '.join(sorted(twice))}")
    return found


def all_signals() -> dict[str, Signal]:
    """Return the signals by their id, group by group."""
    return {signal.id: signal for group in groups().values() for signal in group.signals}


def group_of(signal: Signal) -> str:
    """Return the id of a signal's group."""
    return next(name for name, group in groups().items() if signal in group.signals)
