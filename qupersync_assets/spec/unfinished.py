"""The status of queries and loads that have not ended as far as Redshift knows, for views with a column `status`."""

from collections.abc import Sequence

from qupersync_assets.spec.window import RETENTION

# Redshift no longer lists the row; how it ended is not known.
UNKNOWN = "unknown"
# Redshift still lists the row as unfinished, after all this time.
STALE = "stale"


def unfinished(ended: Sequence[str]) -> str:
    """Return the condition for rows that have none of the statuses `ended`."""
    return f"(status IS NULL OR status NOT IN ({_literals(ended)}))"


def may_change(ended: Sequence[str]) -> str:
    """Return the condition for rows that may still change; it implies `unfinished`, which has an index."""
    return f"{unfinished(ended)} AND status IS DISTINCT FROM '{UNKNOWN}'"


def status_expression(ended: Sequence[str], row: str = "") -> str:
    """Return the Redshift expression for the status of a row that starts at `start_time`."""
    status, old = f"RTRIM({row}status)", f"GETDATE() - INTERVAL '{RETENTION.days} days'"
    return (
        f"CASE WHEN {row}start_time < {old} AND {status} NOT IN ({_literals(ended)}) THEN '{STALE}' ELSE {status} END"
    )


def _literals(texts: Sequence[str]) -> str:
    return ", ".join(f"'{text}'" for text in texts)
