"""Time spans for people."""

from datetime import timedelta


def format_duration(span: timedelta | float | None) -> str:
    """Return a time span, or seconds, in its two largest units: 120 ms, 45 s, 5m 10s, 2h 5m, 3d."""
    if span is None:
        return "-"
    seconds = max(span.total_seconds() if isinstance(span, timedelta) else span, 0)
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{int(seconds)} s"
    whole = int(seconds)
    parts = [("d", whole // 86400), ("h", whole // 3600 % 24), ("m", whole // 60 % 60), ("s", whole % 60)]
    first = next(i for i, (_, count) in enumerate(parts) if count)
    return " ".join(f"{count}{unit}" for unit, count in parts[first : first + 2] if count)
