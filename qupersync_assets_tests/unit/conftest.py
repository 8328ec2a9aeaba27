"""Settings and definitions from the variables of a test, an instance, and a clock."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import dagster as dg
import pytest

from qupersync_assets.defs import run_health, schedules, sensors
from qupersync_assets.settings import Settings, variables
from qupersync_assets_tests.support.ticks import Clock

REQUIRED = {
    "REDSHIFT_HOST": "redshift.example",
    "REDSHIFT_DATABASE": "dev",
    "REDSHIFT_USER": "reader",
    "POSTGRES_HOST": "postgres.example",
    "POSTGRES_DATABASE": "quper",
    "POSTGRES_USER": "owner",
}
PASSWORDS = {"REDSHIFT_PASSWORD": "hunter2-of-redshift", "POSTGRES_PASSWORD": "hunter2-of-postgres"}
TWO_CLUSTERS: dict[str, str | None] = {
    "REDSHIFT_HOST": None,
    "CLUSTERS": "prod, eu-west",
    "REDSHIFT_PROD_HOST": "prod.example",
    "REDSHIFT_PROD_PASSWORD": "hunter2-of-prod",
    "REDSHIFT_EU_WEST_HOST": "west.example",
    "REDSHIFT_EU_WEST_PASSWORD": "hunter2-of-west",
    "REDSHIFT_EU_WEST_USER": "other",
    "REDSHIFT_EU_WEST_PORT": "5440",
    "REDSHIFT_STATEMENT_TIMEOUT": "60",
}
Load = Callable[..., Settings]
Build = Callable[..., dg.Definitions]


def _load(patch: pytest.MonkeyPatch, **given: str | None) -> Settings:
    for name in variables():
        patch.delenv(name, raising=False)
    for name, value in {**REQUIRED, **given}.items():
        if value is not None:
            patch.setenv(name, value)
    return Settings.load()


def _build(patch: pytest.MonkeyPatch, **variables: str | None) -> dg.Definitions:
    settings = _load(patch, **variables)
    # Only now: the module loads the settings of the environment when it is imported.
    from qupersync_assets.defs import build_definitions

    return build_definitions(settings)


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Load:
    """Set the required variables and those given, except for values of None, and load the settings."""
    return lambda **variables: _load(monkeypatch, **variables)


@pytest.fixture(scope="session")
def built() -> dict[frozenset[tuple[str, str | None]], dg.Definitions]:
    """The definitions that tests have built, by their variables; tests do not change them."""
    return {}


@pytest.fixture
def build(monkeypatch: pytest.MonkeyPatch, built: dict[frozenset[tuple[str, str | None]], dg.Definitions]) -> Build:
    """Set the required variables and those given, and return their definitions."""

    def run(**variables: str | None) -> dg.Definitions:
        key = frozenset(variables.items())
        if key in built:
            _load(monkeypatch, **variables)
        else:
            built[key] = _build(monkeypatch, **variables)
        return built[key]

    return run


@pytest.fixture(scope="session")
def definitions() -> dg.Definitions:
    """The definitions of the defaults, with passwords."""
    with pytest.MonkeyPatch.context() as patch:
        return _build(patch, **PASSWORDS)


@pytest.fixture(scope="session")
def shared_instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dg.DagsterInstance]:
    """An instance with one database for the events of all runs, because a database for each run is slow."""
    folder = str(tmp_path_factory.mktemp("dagster"))
    events = {
        "module": "dagster._core.storage.event_log",
        "class": "ConsolidatedSqliteEventLogStorage",
        "config": {"base_dir": folder},
    }
    with dg.DagsterInstance.local_temp(folder, overrides={"event_log_storage": events}) as instance:
        yield instance


@pytest.fixture
def instance(shared_instance: dg.DagsterInstance) -> Iterator[dg.DagsterInstance]:
    """An instance without runs."""
    yield shared_instance
    shared_instance.run_storage.wipe()
    shared_instance.event_log_storage.wipe()


@pytest.fixture(autouse=True)
def no_target(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ticks do not look for the target, which has no server here."""
    monkeypatch.setattr(schedules, "postponed", lambda *_: {})


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock(time.time())
    monkeypatch.setattr(schedules, "datetime", clock.datetime())
    monkeypatch.setattr(sensors, "time", clock)
    monkeypatch.setattr(run_health, "time", clock)
    return clock
