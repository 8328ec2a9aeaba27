"""Sends an alert to one URL of ALERT_URLS, with Apprise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from qupersync_assets.core.redaction import redact
from qupersync_assets.settings.alerts import AlertUrl, apprise_log

if TYPE_CHECKING:
    import apprise

READ_SECONDS = 30  # slow services send an alert, but answer late
# Slack recommends at most 4,000: https://docs.slack.dev/reference/methods/chat.postMessage#truncating
MAX_CHARACTERS = 3500


@dataclass(frozen=True)
class Alert:
    """A message in plain text."""

    title: str
    body: str


class AlertError(Exception):
    """An alert was not sent; the text names the entry of ALERT_URLS and the reason."""


class AppriseNotifier:
    """Sends alerts to one URL."""

    def __init__(self, url: AlertUrl) -> None:
        self._url = url

    def send(self, alert: Alert) -> str:
        """Send an alert.

        Returns:
            Why some recipients of the URL did not get it; "" if all got it.

        Raises:
            AlertError: no recipient got it.
        """
        import apprise  # of the extra `alerts`, and slow to import

        delivered: list[Any] = []
        body = alert.body if len(alert.body) <= MAX_CHARACTERS else f"{alert.body[:MAX_CHARACTERS]} ..."
        with apprise_log() as problems:
            sender = apprise.Apprise()
            if service := self._url.service():
                _prepare(service, delivered)
                sender.add(service)
            sent = sender.notify(
                body=body,
                title=alert.title,
                notify_type=apprise.NotifyType.FAILURE,
                body_format=apprise.NotifyFormat.TEXT,
            )
        if sent:
            return ""
        why = redact("; ".join(problems)) or "Apprise gives no reason"
        if delivered:  # another try would send it again to these
            return f"ALERT_URLS: {self._url} did not reach all of its recipients: {why}"
        raise AlertError(f"ALERT_URLS: {self._url} refused the alert: {why}")


def _prepare(service: apprise.NotifyBase, delivered: list[Any]) -> None:
    """Set timeouts and cut long texts where the URL does not say otherwise; list the recipients served."""
    import apprise

    vars(service).setdefault("socket_read_timeout", READ_SECONDS)
    if service.overflow_mode == apprise.OverflowMode.UPSTREAM:
        service.overflow_mode = apprise.OverflowMode.TRUNCATE
    mark_delivered = service.mark_delivered

    def mark(key: Any, per_message: bool = False) -> None:
        delivered.append(key)
        mark_delivered(key, per_message)

    vars(service)["mark_delivered"] = mark
