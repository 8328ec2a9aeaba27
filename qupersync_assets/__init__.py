"""QuperSync: Amazon Redshift system views, kept fresh in PostgreSQL by Dagster assets.

In a Dagster project of yours use `QuperSyncComponent`, or `build_qupersync_defs` with `Settings`: docs/embedding.md.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qupersync_assets.component import QuperSyncComponent, build_qupersync_defs
    from qupersync_assets.settings import Settings

__all__ = ["QuperSyncComponent", "Settings", "build_qupersync_defs"]


def __getattr__(name: str) -> Any:
    """Import a name of `__all__` when it is used: most modules of the package need no Dagster."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name == "Settings":
        from qupersync_assets import settings as module
    else:
        from qupersync_assets import component as module  # type: ignore[no-redef]
    return getattr(module, name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
