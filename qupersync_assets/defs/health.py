"""The asset of the findings about the health of clusters, its checks, its job, and the sensor that starts it.

The job is not part of that of the syncs: in one run, Dagster skips a step if one before it failed.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, timedelta
from typing import Any

import dagster as dg

from qupersync_assets.core.errors import ErrorClass, SyncError
from qupersync_assets.core.redaction import redact, redact_exceptions, redacted
from qupersync_assets.defs.executors import IN_PROCESS, run_tags
from qupersync_assets.defs.names import CLUSTER_TAG, IO_MANAGER_KEY, POSTGRES_KEY, TRIGGER_TAG, Placement, target_tag
from qupersync_assets.defs.partitions import cluster_of_step, partitions_of, tagged
from qupersync_assets.health import all_signals, groups
from qupersync_assets.health.due import find_due
from qupersync_assets.health.evaluation import Evaluation, evaluate
from qupersync_assets.health.freshness import SignalStatus
from qupersync_assets.health.options import HealthOptions
from qupersync_assets.health.readers import summaries, worst_of_groups
from qupersync_assets.postgres.health_tables import HEALTH_FINDINGS
from qupersync_assets.postgres.resource import PostgresResource
from qupersync_assets.settings import Settings
from qupersync_assets.spec import SyncSpec
from qupersync_assets.sync.health_options import options_by_cluster
from qupersync_assets.sync.job_choice import cluster_interval

SENSOR_SECONDS = 30
SAMPLES = 10
# Without new rows findings are evaluated once an hour: some depend on the time.
_IDLE = timedelta(hours=1)
_DESCRIPTION = f"""Problems of the clusters: since when they exist, and the statement or setting that helps.

{HEALTH_FINDINGS.comment} Each check is a group of signals: it fails if the cluster has such a problem, not if a
sync failed. Findings are evaluated within a minute after each sync; until then Dagster marks them as Unsynced."""


def build_health(specs: Sequence[SyncSpec], settings: Settings, placement: Placement) -> dg.Definitions:
    """Build asset, checks, job and sensor; none if HEALTH_FINDINGS is false.

    Raises:
        SettingsError: HEALTH_THRESHOLDS names a signal that does not exist.
    """
    options = options_by_cluster(settings)
    if not settings.health_findings:
        return dg.Definitions()
    job = dg.define_asset_job(
        placement.health_job,
        dg.AssetSelection.assets(placement.health_key),
        description="Checks the clusters for problems, in the tables of the syncs. A sensor starts it after each sync.",
        executor_def=IN_PROCESS,
        **tagged(settings, {TRIGGER_TAG: "manual", **target_tag(settings), **run_tags(settings)}),
    )
    return dg.Definitions(
        assets=[_build_asset(specs, settings, options, placement)],
        jobs=[job],
        sensors=[_build_sensor(options, job, placement)],
    )


def _build_asset(
    specs: Sequence[SyncSpec], settings: Settings, options: Mapping[str, HealthOptions], placement: Placement
) -> dg.AssetsDefinition:
    read = {job for signal in all_signals().values() for job in signal.jobs}
    postgres_key = placement.resource(POSTGRES_KEY)
    idle = _IDLE + timedelta(seconds=2 * max(cluster_interval(settings, cluster) for cluster in options))

    @dg.asset(
        key=placement.health_key,
        deps=[placement.asset_key(spec) for spec in specs if spec.sync_job_id in read],
        group_name="quper",
        kinds={"postgres"},
        owners=[settings.asset_owner],
        description=_DESCRIPTION,
        metadata={"dagster/table_name": HEALTH_FINDINGS.fullname, "dagster/column_schema": _columns()},
        partitions_def=partitions_of(settings),
        required_resource_keys={postgres_key},
        io_manager_key=placement.resource(IO_MANAGER_KEY),  # it stores nothing, but a job builds the one that it names
        check_specs=_check_specs(settings, placement),
        config_schema={},
        freshness_policy=dg.FreshnessPolicy.time_window(warn_window=idle, fail_window=idle + _IDLE),
    )
    def health_findings(context: dg.AssetExecutionContext) -> Iterator[Any]:
        cluster = cluster_of_step(context, list(options))
        postgres: PostgresResource = getattr(context.resources, postgres_key)
        try:
            evaluation = evaluate(postgres, cluster, options[cluster], always=True)
            with postgres.transaction() as connection:
                found = {row["group_id"]: row for row in summaries(connection, [cluster])}
                samples = worst_of_groups(connection, cluster, SAMPLES)
        except SyncError as error:
            is_transient = error.error_class is ErrorClass.TRANSIENT
            raise dg.Failure(redact(str(error)), allow_retries=is_transient) from redacted(error)
        results = [_check(name, found[name], samples.get(name, []), evaluation) for name in groups()]
        yield dg.MaterializeResult(metadata=_metadata(evaluation, list(found.values())), check_results=results)

    return health_findings


def _columns() -> dg.TableSchema:
    return dg.TableSchema([dg.TableColumn(c.name, str(c.type).lower(), c.comment) for c in HEALTH_FINDINGS.c])


def _check_specs(settings: Settings, placement: Placement) -> list[dg.AssetCheckSpec]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.PreviewWarning)  # without it one cluster replaces the result of another
        return [
            dg.AssetCheckSpec(
                name,
                asset=placement.health_key,
                description=f"{group.title}: an error if a finding is critical, a warning if one is a warning.",
                partitions_def=partitions_of(settings),
            )
            for name, group in groups().items()
        ]


def _check(
    name: str, counts: Mapping[str, Any], samples: Sequence[Mapping[str, Any]], evaluation: Evaluation
) -> dg.AssetCheckResult:
    """Return the result of a group: its worst finding decides."""
    numbers = {severity: int(counts[severity]) for severity in ("critical", "warning", "info")}
    text = ", ".join(f"{number} {severity}" for severity, number in numbers.items() if number) or "No findings"
    left_out = [
        f"{signal.title}: {evaluation.signals[signal.id].reason}"
        for signal in groups()[name].signals
        if evaluation.signals[signal.id].status is not SignalStatus.EVALUATED
    ]
    metadata: dict[str, Any] = dict(numbers)
    if samples:
        text += f". The first one: {samples[0]['title']}: {samples[0]['object']}"
        metadata["samples"] = _table(samples)
    if left_out:
        metadata["not_evaluated"] = dg.MetadataValue.md("\n".join(f"- {line}" for line in left_out))
    return dg.AssetCheckResult(
        check_name=name,
        passed=not (numbers["critical"] or numbers["warning"]),
        severity=dg.AssetCheckSeverity.ERROR if numbers["critical"] else dg.AssetCheckSeverity.WARN,
        description=f"{text}.",
        metadata=metadata,
    )


def _table(findings: Sequence[Mapping[str, Any]]) -> dg.TableMetadataValue:
    records = [
        dg.TableRecord(
            {
                "severity": row["severity"],
                "finding": row["title"],
                "object": row["object"],
                "value": f"{row['value'].normalize():f} {row['unit'] or ''}".strip()
                if row["value"] is not None
                else "",
                "since (UTC)": f"{row['since'].astimezone(UTC):%Y-%m-%d %H:%M}",
                "remedy": row["remedy"] or "",
            }
        )
        for row in findings
    ]
    names = ("severity", "finding", "object", "value", "since (UTC)", "remedy")
    return dg.MetadataValue.table(records, dg.TableSchema([dg.TableColumn(name) for name in names]))


def _metadata(evaluation: Evaluation, counts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the metadata of a materialization: always the same keys and types, so that the UI plots them."""
    statuses = [ready.status for ready in evaluation.signals.values()]
    return {
        "dagster/table_name": HEALTH_FINDINGS.fullname,
        **{severity: sum(int(row[severity]) for row in counts) for severity in ("critical", "warning", "info")},
        "new": evaluation.opened,
        "resolved": evaluation.resolved,
        "signals_evaluated": statuses.count(SignalStatus.EVALUATED),
        "signals_left_out": len(statuses) - statuses.count(SignalStatus.EVALUATED),
        "duration_ms": round(evaluation.seconds * 1000),
    }


def _build_sensor(options: Mapping[str, HealthOptions], job: Any, placement: Placement) -> dg.SensorDefinition:
    postgres_key = placement.resource(POSTGRES_KEY)
    several = len(options) > 1

    @dg.sensor(
        name=f"{placement.health_job}_sensor",
        job=job,
        minimum_interval_seconds=SENSOR_SECONDS,
        default_status=placement.sensor_status,
        required_resource_keys={postgres_key},
        description="Evaluates the health of a cluster after each sync that wrote rows, and once an hour.",
    )
    def health_sensor(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        postgres: PostgresResource = getattr(context.resources, postgres_key)
        requests: list[dg.RunRequest] = []
        reasons: list[str] = []
        for cluster, option in options.items():
            partition = cluster if several else None
            # A command may have evaluated: then the asset has no materialization yet.
            is_new = not _is_materialized(context.instance, placement.health_key, partition)
            with redact_exceptions():
                due = find_due(postgres, cluster, option, always=is_new)
            if due.since is None:
                reasons.append(f"{cluster}: {due.reason}" if several else due.reason)
                continue
            # One run for each end of a sync, also if it fails.
            key = f"{cluster} {due.since.isoformat()}"
            requests.append(
                dg.RunRequest(key, partition_key=partition, tags={CLUSTER_TAG: cluster, TRIGGER_TAG: "sensor"})
            )
        if requests:
            return dg.SensorResult(run_requests=requests)
        return dg.SensorResult(skip_reason=" ".join(reasons))

    return health_sensor


def _is_materialized(instance: dg.DagsterInstance, key: dg.AssetKey, partition: str | None) -> bool:
    wanted = dg.AssetRecordsFilter(key, asset_partitions=[partition] if partition else None)
    return bool(instance.fetch_materializations(wanted, limit=1).records)
