"""Check of the storage of the Dagster instance: whether its connection has the settings that the target's has."""

from collections.abc import Iterator
from functools import partial

import sqlalchemy as sa

from qupersync_assets.core.errors import InstanceError
from qupersync_assets.core.redaction import redact
from qupersync_assets.doctor.report import Finding
from qupersync_assets.postgres.connection import PINNED, URL
from qupersync_assets.settings import Settings
from qupersync_assets.sync.dagster_state import find_home, is_in_target

_finding = partial(Finding, "dagster", "storage")
_REMEDY = f"In dagster.yaml, set storage: {{postgres: {{postgres_url: '{URL}'}}}}, whose connections pin them."
_PINNED = "the connection of POSTGRES_*, with pinned settings"
# TCP's settings do not change what Dagster stores.
_EFFECTIVE = sa.text("SELECT name, setting FROM pg_settings WHERE name = ANY (:names) AND name NOT LIKE 'tcp%'")


def examine(settings: Settings) -> Iterator[Finding]:
    """Yield the finding about the storage of the configured Dagster instance; none without an instance."""
    try:
        home = find_home()
        if home is None:
            return
        if is_in_target(home):  # without the import of Dagster
            yield _finding(_PINNED)
            return
        from qupersync_assets.defs.instance import configured_instance

        with configured_instance(settings, captures_output=False) as instance:
            if instance is not None:
                # Dagster's own attribute of its PostgreSQL storage; others, such as SQLite, have no session settings.
                yield _storage(getattr(instance.event_log_storage, "postgres_url", None))
    except InstanceError as error:
        yield _finding("not usable", redact(str(error)))


def _storage(url: str | None) -> Finding:
    if url is None:
        return _finding("not PostgreSQL")
    if sa.make_url(url).drivername == sa.make_url(URL).drivername:
        return _finding(_PINNED)
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    with engine.connect() as connection:
        effective = connection.execute(_EFFECTIVE, {"names": list(PINNED)}).all()
    others = ", ".join(f"{name} {value}" for name, value in sorted(effective) if value.lower() != PINNED[name].lower())
    detail = "a connection of its own, whose settings are not pinned"
    if others:
        return _finding(f"{detail}: {others}", _REMEDY)
    return _finding(f"{detail}; the server sets the same")
