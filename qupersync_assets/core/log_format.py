"""The format of the logs of all processes: one line per record, as text or as JSON, without colours in files.

Dagster writes a failed step as a stack trace of each of its causes, eight times for one outage; the UI has them. Its
loggers take their formatters from coloredlogs, in each of its processes: replaced there, they need no configuration. A
message that repeats within a minute is written once: in an outage each of the daemon's threads tries again and again.
"""

import json
import logging
import re
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any, ClassVar

from qupersync_assets.core.redaction import redact
from qupersync_assets.core.retries import FAILED_ATTEMPT

TEXT, JSON = "text", "json"
# Dagster's loggers whose handlers exist before this module is imported.
_LOGGERS = ("dagster", "dagit", "dagster-webserver")
_OWN_ERRORS = ("Failure", "SyncError")
_STEP_FAILURES = ("STEP_FAILURE", "STEP_UP_FOR_RETRY")
_MAX_CHARACTERS = 1000  # warnings of Dagster may contain whole stack traces
# What lines of a stack trace begin with.
_OF_TRACES = (" ", "Stack Trace:", "The above exception", "[", "(Background on this error")
_TIME = "%Y-%m-%d %H:%M:%S"
# So long, and by so many of its first characters, a message repeats another one; numbers in it may differ.
_REPEAT_SECONDS, _REPEAT_CHARACTERS = 60.0, 300
_log = logging.getLogger(__name__)


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
    if (trace := text.partition("\nStack Trace:\n"))[1]:  # Dagster puts an error and its causes into texts
        causes = [line for line in trace[2].splitlines() if line and not line.startswith(_OF_TRACES)]
        text = " ".join([trace[0], *causes[-1:]])
    text = redact(" ".join(text.partition("\n[SQL: ")[0].split()))  # SQLAlchemy appends statement and values
    return text if len(text) <= _MAX_CHARACTERS else f"{text[:_MAX_CHARACTERS]} ..."


class StepFailures:
    """Writes the cause of failed steps in the process of their run, once for all steps that have it.

    Each step has a process of its own, which would write it again: these write none from now on.
    """

    are_written: ClassVar[bool] = False

    def __init__(self, run_id: str, job_name: str) -> None:
        self._meta = {"run_id": run_id, "job_name": job_name}
        self._written: set[tuple[str, str]] = set()
        StepFailures.are_written = True

    def see(self, event: Any) -> None:
        """Write a line if the event has a new cause."""
        error = getattr(event.event_specific_data, "error", None)
        if event.event_type_value not in _STEP_FAILURES or error is None:
            return
        cause = _cause(error)
        new = event.event_type_value, _without_numbers(cause)
        if new not in self._written:
            self._written.add(new)
            text = f"{self._meta['job_name']} - {self._meta['run_id']} - {event.step_key} - {new[0]} - {cause}"
            _log.error(text, extra={"dagster_meta": {**self._meta, "step_key": event.step_key}})


def _handle_once(handler: logging.Handler, record: logging.LogRecord) -> bool | logging.LogRecord:
    """What handlers of streams do: drop what one of them has written in the last minute, as far as it is a warning.

    It concerns the formats of this module only. Loggers of a class of our own would not do: structlog sets another one.
    """
    if isinstance(handler.formatter, (LineFormatter, JsonFormatter)):
        if StepFailures.are_written and _is_failure_of_step(record):
            return False
        if record.levelno >= logging.WARNING and not _is_new(record):
            return False
    return logging.Handler.handle(handler, record)


def _is_failure_of_step(record: logging.LogRecord) -> bool:
    return getattr(_event(record), "event_type_value", None) in _STEP_FAILURES or bool(
        FAILED_ATTEMPT.search(record.getMessage())
    )


_written: dict[str, float] = {}


def _is_new(record: logging.LogRecord) -> bool:
    """Return whether no such record was written in the last minute, and note it."""
    text, now = _without_numbers(message(record)), time.monotonic()
    for old, at in list(_written.items()):
        if now - at > _REPEAT_SECONDS:
            _written.pop(old, None)
    return _written.setdefault(text, now) == now


def _without_numbers(text: str) -> str:
    return re.sub(r"\d+", "#", text)[:_REPEAT_CHARACTERS]


def configure_logs(log_format: str) -> None:
    """Let the loggers of this process, and those that Dagster will make, write in this format."""
    import coloredlogs  # type: ignore[import-untyped]

    make = JsonFormatter if log_format == JSON else LineFormatter
    logging.StreamHandler.handle = _handle_once  # type: ignore[assignment,method-assign]
    if not logging.root.handlers:  # `logging.warning` would add one, with stack traces, and for Dagster's lines too
        others = logging.StreamHandler()
        others.setLevel(logging.WARNING)
        others.setFormatter(make())
        logging.root.addHandler(others)

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
