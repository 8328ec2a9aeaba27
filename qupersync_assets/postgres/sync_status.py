"""The statuses of quper.sync_logs, in a module that `qupersync --help` imports without SQLAlchemy."""

from enum import StrEnum


class SyncStatus(StrEnum):
    """The status of a job in one run."""

    RUNNING = "running"
    SUCCESS = "success"
    PARTIAL = "partial"  # some databases of the cluster could not be read; the others are loaded
    FAILED = "failed"
    CANCELED = "canceled"
    UNAVAILABLE = "unavailable"
    SKIPPED = "skipped"


ENDED = tuple(status for status in SyncStatus if status is not SyncStatus.RUNNING)

# Not failures: the cluster has no source for the job, or another run loads it at this moment.
ACCEPTED = (SyncStatus.SUCCESS, SyncStatus.UNAVAILABLE, SyncStatus.SKIPPED)
