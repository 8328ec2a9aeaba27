"""The state of all jobs, and what needs attention: what `qupersync status` and the first page of the UI show."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from qupersync_assets.postgres.job_status import JobState, job_states
from qupersync_assets.postgres.resource import PostgresResource
from qupersync_assets.postgres.sync_status import SyncStatus
from qupersync_assets.settings import Settings
from qupersync_assets.spec import SyncSpec
from qupersync_assets.sync.checks import latest_checks
from qupersync_assets.sync.dagster_state import DagsterState
from qupersync_assets.sync.job_choice import jobs_by_cluster
from qupersync_assets.sync.operations import find_problems
from qupersync_assets.sync.problems import Problem, Severity
from qupersync_assets.sync_jobs import all_specs, default_specs, spec_of

# Latest result of each check of the jobs that are on, by cluster and job, then by name.
Checks = Mapping[tuple[str, str], Mapping[str, Mapping[str, str | None]]]


@dataclass(frozen=True)
class Overview:
    """The states of the jobs of some clusters, in their order."""

    states: Sequence[JobState]
    checks: Checks
    attention: Mapping[tuple[str, str], str]  # cluster and job that needs attention -> why, in a few words
    problems: Sequence[Problem]  # that keep jobs from succeeding; none if the state of Dagster is not known

    @property
    def needy(self) -> list[JobState]:
        """The jobs that need attention."""
        return [state for state in self.states if (state.cluster, state.sync_job_id) in self.attention]

    @property
    def general_errors(self) -> list[Problem]:
        """Errors that concern no single job."""
        return [problem for problem in self.problems if not problem.jobs and problem.severity is Severity.ERROR]

    @property
    def ok(self) -> bool:
        """Whether nothing needs attention."""
        return not self.attention and not self.general_errors


def read_overview(
    settings: Settings, postgres: PostgresResource, clusters: Sequence[str], dagster: DagsterState | None
) -> Overview:
    """Return the overview of these clusters; `dagster` is None if its state is not known.

    Raises:
        SyncError: PostgreSQL cannot be reached, or its schema has another version.
    """
    states = job_states(postgres, dict.fromkeys(clusters, all_specs()))
    states = _with_jobs_off(states, jobs_by_cluster(settings), {spec.sync_job_id for spec in default_specs()})
    problems = find_problems(dagster, postgres, settings, None, with_failed=True) if dagster else []
    checks = {(s.cluster, s.sync_job_id): latest_checks(s, spec_of(s.sync_job_id)) for s in states if not s.is_off}
    late = {(problem.cluster, job): problem.summary for problem in problems for job in problem.jobs}
    why = {(s.cluster, s.sync_job_id): _attention(s, checks, late) for s in states}
    return Overview(states, checks, {job: text for job, text in why.items() if text}, problems)


def _with_jobs_off(
    states: Sequence[JobState], on: Mapping[str, Sequence[SyncSpec]], default: Collection[str]
) -> list[JobState]:
    """Mark the jobs that are off, and leave out optional jobs that were never on."""
    jobs_on = {(cluster, spec.sync_job_id) for cluster, specs in on.items() for spec in specs}
    marked = [replace(state, is_off=(state.cluster, state.sync_job_id) not in jobs_on) for state in states]
    return [state for state in marked if not state.is_off or state.last or state.sync_job_id in default]


def _attention(state: JobState, checks: Checks, late: Mapping[tuple[str | None, str], str]) -> str:
    """Return why a job needs attention, in a few words; empty if it does not. `late` jobs miss a success."""
    if state.is_off:
        return ""
    found = checks.get((state.cluster, state.sync_job_id), {})
    errors = [name for name, check in found.items() if check["status"] == "error"]
    if state.last and state.last["status"] in (SyncStatus.FAILED, SyncStatus.PARTIAL):
        errors.insert(0, state.last["status"])
    elif missing := late.get((state.cluster, state.sync_job_id)):
        errors.insert(0, missing)
    return ", ".join(errors)
