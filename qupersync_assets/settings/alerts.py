"""The URLs of ALERT_URLS, each for one service of Apprise. No Dagster, and no connection."""

from __future__ import annotations

import importlib.util
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pydantic import SecretStr

from qupersync_assets.core.redaction import learn_secret, split_urls

if TYPE_CHECKING:
    import apprise


@dataclass(frozen=True)
class AlertUrl:
    """One of the URLs of ALERT_URLS, which is secret, and its position there, from 1."""

    number: int
    url: str = field(repr=False)

    @property
    def schema(self) -> str:
        """The word before ://, or "unknown"."""
        found = re.match("([A-Za-z][A-Za-z0-9]{0,19})://", self.url)
        return found[1].lower() if found else "unknown"

    def __str__(self) -> str:
        return f"entry {self.number} ({self.schema})"

    def service(self) -> apprise.NotifyBase | None:
        """Return Apprise's object for the URL, or None if Apprise refuses it; call it within `apprise_log`."""
        import apprise  # of the extra `alerts`, and slow to import

        asset = apprise.AppriseAsset(app_id="QuperSync", app_desc="QuperSync", app_url="", async_mode=False)
        service = apprise.Apprise.instantiate(self.url, asset=asset)
        if service is not None:
            for name, token in {**service.template_tokens, **service.template_args}.items():
                value = getattr(service, token.get("map_to", name), None)
                # Shorter values are no tokens, and redacting them would blank out ordinary text.
                if token.get("private") and isinstance(value, str) and len(value) > 3:
                    learn_secret(value)
        return service


def parse_alert_urls(urls: SecretStr | None) -> list[AlertUrl]:
    """Return the entries of ALERT_URLS in their order."""
    texts = split_urls(urls.get_secret_value()) if urls else []
    return [AlertUrl(number, url) for number, url in enumerate(texts, 1)]


def check_alert_urls(urls: SecretStr) -> SecretStr:
    """Return the value of ALERT_URLS if Apprise accepts each URL; else raise a ValueError, which shows none of them."""
    if importlib.util.find_spec("apprise") is None:
        raise ValueError("it needs the extra alerts: pip install 'qupersync[alerts]'")
    entries = parse_alert_urls(urls)
    problems = [f"{entry} {problem}" for entry in entries if (problem := _problem(entry))]
    if problems or not entries:
        raise ValueError("; ".join(problems) or "it has no URL")
    return urls


def _problem(entry: AlertUrl) -> str:
    with apprise_log() as problems:
        service = entry.service()
    if service is None:
        return "is not a URL that Apprise accepts"
    if problems:
        return "has a recipient or parameter that Apprise does not accept"
    if service.password and getattr(service, "secure_mode", None) == "insecure":
        return "would send its password without TLS; allowed is mailtos://"
    return ""


# urllib3 logs the paths of its requests at level DEBUG.
_LOGGERS = ("apprise", "urllib3.connectionpool")
# Apprise logs the cause of a problem at level DEBUG, as it does its requests.
_CAUSE = re.compile(r"\S* ?Exception: |Response Details")
_captured: ContextVar[list[str] | None] = ContextVar("_captured", default=None)


def _capture(record: logging.LogRecord) -> bool:
    """Keep problems for `apprise_log`; return whether the record may be written."""
    captured = _captured.get()
    if captured is None:
        return record.levelno >= logging.WARNING or record.name != _LOGGERS[0]
    message = record.getMessage()
    if record.levelno in (logging.WARNING, logging.ERROR) or _CAUSE.match(message):
        captured.append(" ".join(message.split()))
    return False


@contextmanager
def apprise_log() -> Iterator[list[str]]:
    """Collect the problems that Apprise logs meanwhile; write none, because they quote parts of URLs."""
    for name in _LOGGERS:
        logging.getLogger(name).addFilter(_capture)  # once: a second call changes nothing
    logging.getLogger(_LOGGERS[0]).setLevel(logging.DEBUG)
    messages: list[str] = []
    token = _captured.set(messages)
    try:
        yield messages
    finally:
        _captured.reset(token)
