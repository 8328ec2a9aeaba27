"""What passes between an asset and its IO manager."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import RowMapping

from qupersync_assets.redshift.privileges import Rights
from qupersync_assets.redshift.wire_protocol import Pages
from qupersync_assets.rows.coercion import Counts, Rejected
from qupersync_assets.spec.sync_spec import WHOLE, SyncSpec, Variant, Window


@dataclass
class Source:
    """What a job found in its cluster to read from, filled when reading begins.

    Attributes:
        window: what of it is to be read, filled by the IO manager.
        read_to: Redshift's clock when reading began (UTC).
        variant: the variant that is read, None if there is none.
        statement: its SELECT.
        missing: `view.column` of the source columns that the cluster lacks and that are read as NULL.
        ignored: `view.column` of columns that the cluster has and the documentation has not.
        passed_over: why preferred variants are not read, a sentence each.
        rights: those of our user, known if the views that were tried show users their own rows.
        unavailable: why there is no variant, if so.
    """

    window: Window = WHOLE
    read_to: datetime | None = None
    variant: Variant | None = None
    statement: str = ""
    missing: list[str] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)
    passed_over: list[str] = field(default_factory=list)
    rights: Rights | None = None
    unavailable: str | None = None

    @property
    def missing_names(self) -> str | None:
        """The missing columns, as quper.sync_logs names them."""
        return ", ".join(self.missing) or None

    @property
    def name(self) -> str | None:
        """The views that are read, as quper.sync_logs names them."""
        return self.variant.name if self.variant else None


@dataclass
class Feed:
    """What an asset hands to its IO manager, and what the IO manager reports back.

    Attributes:
        spec: the sync job.
        cluster: name of the source cluster, first column of every key.
        pages: the source, read while it is loaded.
        full_refresh: all that Redshift holds is wanted, whatever the target has.
        source: where the pages come from, known when the first one has come.
        counts: filled by the IO manager.
        samples: the first few rejected rows, filled by the IO manager.
        gap: from when to when rows were lost to Redshift's forgetting, filled by the IO manager.
        skipped: which run was loading the job already, so that nothing was read; filled by the IO manager.
        last_runs: the job's newest rows in quper.sync_logs, filled by the IO manager.
    """

    spec: SyncSpec
    cluster: str
    pages: Pages
    source: Source = field(default_factory=Source)
    full_refresh: bool = False
    counts: Counts = field(default_factory=Counts)
    samples: list[Rejected] = field(default_factory=list)
    gap: tuple[datetime, datetime] | None = None
    skipped: str | None = None
    last_runs: Sequence[RowMapping] = ()

    @property
    def source_name(self) -> str:
        """The views that were read, or in a word why none was, for metadata."""
        return self.source.name or ("skipped" if self.skipped else "unavailable")
