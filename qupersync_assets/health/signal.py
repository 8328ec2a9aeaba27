"""What a signal of a cluster's health is: plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Severity(StrEnum):
    """How urgent a finding is, the worst first."""

    CRITICAL = "critical"
    WARNING = "warning"
    INFO = "info"


# The columns of each signal's SELECT, in their order, and their types.
COLUMNS = {
    "object": 'text COLLATE "C"',
    "value": "numeric",
    "size_mb": "bigint",
    "times": "bigint",
    "target": "text",
    "note": "text",
    "database": "text",
    "table_id": "bigint",
    "query_id": "bigint",
    "pattern": "text",
}


@dataclass(frozen=True)
class Signal:
    """One thing that is looked for, and what helps.

    The SQL parameters are `cluster`, `now` (start of the hour), `threshold` of the signal, and `large_rows`, the rows
    above which a table is large.

    Attributes:
        id: its name in quper.health_signals and in HEALTH_THRESHOLDS.
        title: what is wrong if it finds something, as a short phrase.
        severity: of its findings.
        jobs: the sync jobs whose tables it reads; without fresh data of each of them it is not evaluated.
        source: what stands after FROM.
        where: the condition of a finding.
        columns: SQL expressions of COLUMNS; `object` identifies what the finding is about, `value` is measured,
            `target` replaces {target} in the remedy. A column that is not named is NULL.
        threshold: a number in `where` that users may change.
        unit: of the value.
        times_are: what the column `times` counts.
        remedy: the statement or the setting that helps.
        url: the address of AWS's documentation.
        unavailable: why no table has the data; such a signal has no SQL and is never evaluated.
        threshold_unit: of the threshold, if it is not that of the value.
    """

    id: str
    title: str
    severity: Severity
    jobs: tuple[str, ...]
    source: str = ""
    where: str = "true"
    columns: Mapping[str, str] = field(default_factory=dict)
    threshold: float | None = None
    unit: str = ""
    times_are: str = ""
    remedy: str = ""
    url: str = ""
    unavailable: str = ""
    threshold_unit: str = ""

    def __post_init__(self) -> None:
        if unknown := self.columns.keys() - COLUMNS.keys():
            raise ValueError(f"signal {self.id} has unknown columns: {', '.join(sorted(unknown))}")
        if not self.unavailable and not {"object", "value"} <= self.columns.keys():
            raise ValueError(f"signal {self.id} needs the columns object and value")

    @property
    def sql(self) -> str:
        """The SELECT of its findings, with the columns of COLUMNS."""
        listed = ", ".join(f"({self.columns.get(name, 'NULL')})::{type_} AS {name}" for name, type_ in COLUMNS.items())
        return f"SELECT {listed} FROM {self.source} WHERE {self.where}"


@dataclass(frozen=True)
class Group:
    """Signals about one subject; its id is the name of its module.

    Attributes:
        title: the subject.
        signals: in the order in which they are listed.
        prepared: temporary tables that its signals read, as SELECT by name; they may read tables of default jobs only.
    """

    title: str
    signals: tuple[Signal, ...]
    prepared: Mapping[str, str] = field(default_factory=dict)
