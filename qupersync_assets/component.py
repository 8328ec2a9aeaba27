"""QuperSync in a Dagster project of others: a component for YAML, and the same as a function for Python."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

import dagster as dg
from dagster.components.utils.translation import TranslationFn, TranslationFnResolver
from pydantic import Field

from qupersync_assets.alerts.health_digest import build_digests
from qupersync_assets.alerts.sensors import build_alerts
from qupersync_assets.defs import build_definitions
from qupersync_assets.defs.names import Placement
from qupersync_assets.settings import Settings, SettingsError
from qupersync_assets.sync_jobs import all_specs

Translation = Callable[[dg.AssetSpec], dg.AssetSpec]


def build_qupersync_defs(
    settings: Settings,
    *,
    name: str = "qupersync",
    key_prefix: Sequence[str] = (),
    group: str | None = None,
    owners: Sequence[str] = (),
    translation: Translation | None = None,
    executor: dg.ExecutorDefinition | None = None,
    running: bool = False,
) -> dg.Definitions:
    """Build a QuperSync that stands beside other definitions of a code location.

    Args:
        settings: see `Settings.build`.
        name: begins the names of jobs, schedules, sensors and resources; each QuperSync of a location has its own.
        key_prefix: the first parts of the keys of its assets; each QuperSync of a location has its own.
        group: the group of its assets, instead of quper and redshift.
        owners: the owners of its assets, instead of the one in the settings.
        translation: returns the spec of an asset with other attributes; its key stays.
        executor: of its jobs, instead of that of the settings. Runs of selected assets have the executor of the host.
        running: whether schedules and sensors run from the start; otherwise a user starts them.

    Raises:
        SettingsError: settings do not fit each other.
        ValueError: a name or a translation is not allowed.
    """
    for part in (name, *key_prefix):
        if not part.isidentifier():
            raise ValueError(f"{part!r} is no name for QuperSync: allowed are letters, digits and _.")
    placement = Placement(name, tuple(key_prefix), running=running)
    defs = build_placed_defs(settings, placement, executor)

    def translate(spec: dg.AssetSpec) -> dg.AssetSpec:
        changed = spec.replace_attributes(group_name=group or spec.group_name, owners=list(owners) or spec.owners)
        translated = translation(changed) if translation else changed
        if translated.key != spec.key:
            raise ValueError(f"The translation changes the key of {spec.key.to_user_string()}: set key_prefix instead.")
        return translated

    if not (group or owners or translation):
        return defs
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.PreviewWarning)
        return defs.map_asset_specs(func=translate)


def build_placed_defs(
    settings: Settings, placement: Placement, executor: dg.ExecutorDefinition | None = None
) -> dg.Definitions:
    """Build the definitions of a placement, with alerts."""
    alerts = [*build_alerts(all_specs(), settings, placement), *build_digests(settings, placement)]
    return dg.Definitions.merge(build_definitions(settings, placement, executor), dg.Definitions(sensors=alerts))


class Schedule(dg.Model):
    """When the syncs run."""

    running: bool = Field(False, description="Whether schedules and sensors run from the start.")
    interval: int | None = Field(None, description="Seconds between two syncs; 300 by default.")
    timezone: str | None = Field(None, description="Time zone of the schedule, as US/Pacific.")
    job_intervals: dict[str, int] = Field({}, description="Seconds between two syncs of single jobs.")


class Retention(dg.Model):
    """How many days rows are kept in the target."""

    history_days: int | None = Field(None, description="Rows of history tables; all by default.")
    daily_days: int | None = Field(None, description="Rows of daily tables; all by default.")
    log_days: int | None = Field(None, description="Rows of quper.sync_logs; 90 by default.")


class QuperSyncComponent(dg.Component, dg.Model, dg.Resolvable):
    """Copies the health data of Amazon Redshift clusters into PostgreSQL, and finds their problems."""

    source: dict[str, Any] | None = Field(
        None, repr=False, description="Login of the cluster: REDSHIFT_* without this prefix, in lower case."
    )
    clusters: dict[str, dict[str, Any]] | None = Field(
        None, repr=False, description="Logins of several clusters by name, instead of source."
    )
    target: dict[str, Any] = Field(
        repr=False, description="Login of PostgreSQL: POSTGRES_* without this prefix, in lower case."
    )
    name: str = Field("qupersync", description="Begins the names of jobs, schedules, sensors and resources.")
    key_prefix: list[str] = Field([], description="First parts of the keys of the assets.")
    jobs: list[str] = Field(["default"], description="Sync jobs that are on; default is all but the optional ones.")
    schedule: Schedule = Field(Schedule(), description="When the syncs run; stopped unless running is true.")
    retention: Retention = Field(Retention(), description="How many days rows are kept.")
    group: str | None = Field(None, description="Group of the assets; quper and redshift by default.")
    owners: list[str] = Field([], description="Owners of the assets.")
    translation: Annotated[
        TranslationFn[dg.AssetSpec] | None, TranslationFnResolver(lambda spec: {"name": spec.key.path[-1]})
    ] = None
    alert_urls: str | None = Field(None, repr=False, description="Apprise URLs that get alerts; none by default.")
    settings: dict[str, Any] = Field(
        {}, repr=False, description="Further settings by the names of their variables in lower case."
    )

    def build_settings(self) -> Settings:
        """Return the settings.

        Raises:
            SettingsError: fields are missing or not allowed; it names all of them.
        """
        if (self.source is None) == (self.clusters is None):
            raise SettingsError(["  source, clusters: set one of them."], "Check these settings:")
        intervals = ",".join(f"{job}={seconds}" for job, seconds in self.schedule.job_intervals.items())
        given: dict[str, Any] = {
            **{f"postgres_{field}": value for field, value in self.target.items()},
            "sync_jobs": ",".join(self.jobs),
            "sync_interval": self.schedule.interval,
            "sync_timezone": self.schedule.timezone,
            "sync_job_intervals": intervals,
            "quper_retention_days": self.retention.history_days,
            "quper_daily_retention_days": self.retention.daily_days,
            "sync_log_retention_days": self.retention.log_days,
            "alert_urls": self.alert_urls,
        }
        further = dict(self.settings)
        name = str(further.pop("cluster_name", "default"))
        clusters: Mapping[str, Mapping[str, Any]] = self.clusters or {name: self.source or {}}
        if twice := sorted(further.keys() & {key for key, value in given.items() if value not in (None, "")}):
            raise SettingsError([f"  {key}: it has a field of its own." for key in twice], "Check these settings:")
        return Settings.build(clusters, **{**given, **further})

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """Build the definitions of the component."""
        translation = self.translation
        return build_qupersync_defs(
            self.build_settings(),
            name=self.name,
            key_prefix=self.key_prefix,
            group=self.group,
            owners=self.owners,
            translation=(lambda spec: translation(spec, spec)) if translation else None,
            running=self.schedule.running,
        )
