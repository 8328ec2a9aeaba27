"""Sends an alert to one URL of ALERT_URLS, with Apprise."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from qupersync_assets.core.redaction import redact
from qupersync_assets.settings.alerts import AlertUrl, apprise_log

READ_SECONDS = 30  # slow services send an alert, but answer late
# Slack recommends at most 4,000: https://docs.slack.dev/reference/methods/chat.postMessage#truncating
MAX_CHARACTERS = 3500


class AlertKind(StrEnum):
    """The type of an alert, by the names of Apprise; a service shows it as a colour or ends an incident with it."""

    ERROR = "failure"
    WARNING = "warning"
    RECOVERY = "success"


@dataclass(frozen=True)
class Alert:
    """A message in plain text."""

    title: str
    body: str
    kind: AlertKind = AlertKind.ERROR


class AlertError(Exception):
    """An alert was not sent; the text names the entry of ALERT_URLS and the reason."""


def send_alert(url: AlertUrl, alert: Alert) -> str:
    """Send an alert to one URL; return why some of its recipients did not get it, "" if all got it.

    Raises:
        AlertError: no recipient got it.
    """
    import apprise  # of the extra `alerts`, and slow to import

    delivered: list[Any] = []
    sender = apprise.Apprise()
    with apprise_log() as problems:
        service = url.service()
        if service is not None:
            # Parameters of the URL win.
            vars(service).setdefault("socket_read_timeout", READ_SECONDS)
            if service.overflow_mode == apprise.OverflowMode.UPSTREAM:
                service.overflow_mode = apprise.OverflowMode.TRUNCATE
            mark = service.mark_delivered

            def count(key: Any, per_message: bool = False) -> None:
                delivered.append(key)
                mark(key, per_message)

            vars(service)["mark_delivered"] = count
            sender.add(service)
        sent = sender.notify(
            alert.body if len(alert.body) <= MAX_CHARACTERS else f"{alert.body[:MAX_CHARACTERS]} ...",
            alert.title,
            apprise.NotifyType(alert.kind),
            body_format=apprise.NotifyFormat.TEXT,
        )
    if sent:
        return ""
    why = redact("; ".join(problems))
    if delivered:  # another try would send it again to these
        return f"ALERT_URLS: {url} did not reach all of its recipients: {why}"
    raise AlertError(f"ALERT_URLS: {url} refused the alert: {why}")
