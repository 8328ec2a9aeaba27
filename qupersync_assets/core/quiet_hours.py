"""Times of day in which a cluster is left alone, as "20:00-06:00"."""

import re
from datetime import datetime, timedelta

_RANGE = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-4]):([0-5]\d)")
_DAY = 24 * 60


def check_quiet_hours(text: str) -> str:
    """Return the text if it is valid; else raise a ValueError."""
    for part in text.split(","):
        found = _RANGE.fullmatch(part.strip())
        if not found or part.strip().partition("-")[2] > "24:00" or len(set(part.strip().split("-"))) == 1:
            raise ValueError("allowed are different times of day such as 20:00-06:00, several with commas in between")
    return text


def quiet_until(text: str | None, at: datetime) -> datetime | None:
    """Return the end of the quiet hours that contain a time, in its time zone; None if none contains it."""
    minute = at.hour * 60 + at.minute
    for start, end in _ranges(text):
        # Hours over midnight end the next day.
        if (minute - start) % _DAY < (end - start) % _DAY:
            return at.replace(second=0, microsecond=0) + timedelta(minutes=(end - minute) % _DAY)
    return None


def last_quiet(text: str | None, at: datetime) -> datetime | None:
    """Return the last time up to `at` that was in quiet hours: `at` itself, or the end of the last ones."""
    if not text:
        return None
    if quiet_until(text, at):
        return at
    minute = at.hour * 60 + at.minute
    return at.replace(second=0, microsecond=0) - min(timedelta(minutes=(minute - e) % _DAY) for _, e in _ranges(text))


def _ranges(text: str | None) -> list[tuple[int, int]]:
    found = [_RANGE.fullmatch(part.strip()) for part in (text or "").split(",") if part.strip()]
    return [(int(m[1]) * 60 + int(m[2]), int(m[3]) * 60 + int(m[4])) for m in found if m]
