"""The format of the logs of all processes: one line per record, as text or as JSON, without colours in files.

Dagster writes a failed step as a stack trace of each of its causes, eight times for one outage; the UI has them. Its
loggers take their formatters from coloredlogs, in each of its processes: replaced there, they need no configuration.
"""

import json
import logging
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any

from qupersync_assets.core.redaction import redact

TEXT, JSON = "text", "json"
# Dagster's loggers whose handlers exist before this module is imported.
_LOGGERS = ("dagster", "dagit", "dagster-webserver")
_OWN_ERRORS = ("Failure", "SyncError")
_MAX_CHARACTERS = 1000  # warnings of Dagster may contain whole stack traces
_TIME = "%Y-%m-%d %H:%M:%S"


class LineFormatter(logging.Formatter):
    """Formats a record as one line of text."""

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC)
        return f"{at:{_TIME}} UTC {record.levelname} {record.name}: {message(record)}"


class JsonFormatter(logging.Formatter):
    """Formats a record as one JSON object."""

    def format(self, record: logging.LogRecord) -> str:
        meta = getattr(record, "dagster_meta", None) or {}
        fields = {name: meta.get(name) for name in ("run_id", "job_name", "step_key")}
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname,
            "logger": record.name,
            "message": message(record),
            **{name: value for name, value in fields.items() if value},
        }
        return json.dumps(line, ensure_ascii=False)


def message(record: logging.LogRecord) -> str:
    """Return the message of a record on one line, with the cause of an error instead of its stack trace."""
    text = record.getMessage()
    error = getattr(getattr(_event(record), "event_specific_data", None), "error", None)
    if error is not None:
        text = f"{text.partition(chr(10))[0]} {_cause(error)}"
    elif record.exc_info and record.exc_info[1] is not None:
        text = f"{text} {type(record.exc_info[1]).__name__}: {record.exc_info[1]}"
    elif "\nStack Trace:\n" in text:  # Dagster has put an error into the message
        head, _, trace = text.partition("\nStack Trace:\n")
        last = [line for line in trace.splitlines() if line and not line.startswith(" ")]
        text = f"{head} {last[-1] if last else ''}"
    text = redact(" ".join(text.split()))
    return text if len(text) <= _MAX_CHARACTERS else f"{text[:_MAX_CHARACTERS]} ..."


def configure_logs(log_format: str) -> None:
    """Let the loggers of this process, and those that Dagster will make, write in this format."""
    import coloredlogs  # type: ignore[import-untyped]

    make = JsonFormatter if log_format == JSON else LineFormatter

    def formatter(*_: Any, **__: Any) -> logging.Formatter:
        return make()

    if log_format == TEXT and sys.stderr.isatty():
        return  # people read it there: Dagster's colours stay
    before = (coloredlogs.ColoredFormatter, coloredlogs.BasicFormatter)
    handlers = [handler for name in _LOGGERS for handler in logging.getLogger(name).handlers]
    for handler in handlers:
        if isinstance(before[0], type) and isinstance(handler.formatter, before):
            handler.setFormatter(make())
    coloredlogs.ColoredFormatter = coloredlogs.BasicFormatter = formatter


def log_reporter(log_format: str) -> Callable[[str], None]:
    """Return a function that writes a message of this process: to stdout as it is, or as JSON."""
    if log_format != JSON:
        return partial(print, flush=True)
    logger = logging.getLogger("qupersync")
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonFormatter())
    logger.handlers = [handler]
    logger.setLevel(logging.INFO)
    logger.propagate = False
    return logger.info


def _event(record: logging.LogRecord) -> Any:
    meta = getattr(record, "dagster_meta", None) or {}
    return meta.get("dagster_event")


def _cause(error: Any) -> str:
    while error.cause is not None and error.cls_name not in _OWN_ERRORS:
        error = error.cause
    text = str(error.message)
    return text.partition(": ")[2] if error.cls_name in _OWN_ERRORS else text
