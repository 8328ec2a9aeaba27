"""Imports Alembic when it is used: by who creates the tables of Dagster or of QuperSync, or changes them.

Dagster imports it at the start of each of its processes: 7 MB of memory, and a tenth of a second.
"""

import importlib
import importlib.util
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

# What Dagster imports at its start; each other name and module imports Alembic.
_NAMES: dict[str, tuple[str, ...]] = {
    "alembic": (),
    "alembic.command": ("downgrade", "stamp", "upgrade"),
    "alembic.config": ("Config",),
    "alembic.runtime": (),
    "alembic.runtime.environment": ("EnvironmentContext",),
    "alembic.runtime.migration": ("MigrationContext",),
    "alembic.script": ("ScriptDirectory",),
}


class _Late:
    """A function or class of Alembic, which is imported when it is called or asked for an attribute."""

    def __init__(self, module: str, name: str) -> None:
        self._place = module, name

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        return _import(*self._place)(*arguments, **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(_import(*self._place), name)


class _LateModule(ModuleType):
    """Stands for a module of Alembic, with the names that Dagster imports."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.__path__: list[str] = []
        for member in _NAMES[name]:
            setattr(self, member, _Late(name, member))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _import(self.__name__, name)


class _Finder(MetaPathFinder):
    """Finds the other modules of Alembic."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname.startswith("alembic.") and isinstance(sys.modules.get("alembic"), _LateModule):
            _forget()
            return importlib.util.find_spec(fullname)
        return None


def import_late() -> None:
    """Let this process import Alembic when it is used."""
    if "alembic" in sys.modules:
        return
    for name in _NAMES:
        sys.modules[name] = module = _LateModule(name)
        parent, _, last = name.rpartition(".")
        if parent:
            setattr(sys.modules[parent], last, module)
    sys.meta_path.insert(0, _Finder())


def _import(module: str, name: str) -> Any:
    _forget()
    found = importlib.import_module(module)
    return getattr(found, name) if hasattr(found, name) else importlib.import_module(f"{module}.{name}")


def _forget() -> None:
    for name in _NAMES:
        if isinstance(sys.modules.get(name), _LateModule):
            del sys.modules[name]
