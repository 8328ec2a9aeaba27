"""Which rows of a history table one sync reads."""

from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

# How long Redshift keeps its logs: https://docs.aws.amazon.com/redshift/latest/dg/c_intro_STL_tables.html
RETENTION = timedelta(days=7)


class ReadMode(StrEnum):
    """How much of the source a sync reads."""

    FULL = "full"
    INCREMENTAL = "incremental"


class Window(NamedTuple):
    """Which rows of the source a sync reads.

    Attributes:
        mode: everything that Redshift holds, or only new rows.
        reason: why this mode was chosen, for people.
        since: read rows from this time on (UTC); None if the target has no row. A full read begins earlier if
            SyncSpec.full_read_since is earlier.
        mutable_keys: keys of known rows that are read whatever their time, because they may have changed.
        known_from: source and missing columns of the last successful sync. An incremental read of another source
            would leave old rows as the former source gave them. None if any source will do, because the last load
            failed: a full read that fails must not stop a history.
    """

    mode: ReadMode
    reason: str
    since: datetime | None = None
    mutable_keys: tuple[int, ...] = ()
    known_from: tuple[str | None, tuple[str, ...]] | None = None

    @property
    def read_from(self) -> datetime | None:
        """The time before which rows are left out; None if no row is left out."""
        return self.since if self.mode is ReadMode.INCREMENTAL else None


FULL_READ = Window(ReadMode.FULL, "this table is always read completely")
