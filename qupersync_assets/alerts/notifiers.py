"""How an alert is sent, channel by channel, as Dagster resources."""

from __future__ import annotations

import smtplib
import ssl
from dataclasses import dataclass
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from typing import Protocol

import dagster as dg
from pydantic import Field

from qupersync_assets.settings.alerts import SMTP_PORTS

SECONDS = 30  # for a server to answer
# Slack cuts longer texts: https://docs.slack.dev/reference/methods/chat.postMessage#truncating
MOST_CHARACTERS = 3500


@dataclass(frozen=True)
class Alert:
    """What is to be told: a line, more lines, and where to look."""

    title: str
    lines: list[str]
    url: str | None = None

    @property
    def text(self) -> str:
        """All but the title."""
        return "\n".join([*self.lines, *([self.url] if self.url else [])])


class Notifier(Protocol):
    """A channel. For another one: its settings in `channels.py`, a resource with this method, and a line in
    `build_alerts`."""

    def send(self, alert: Alert) -> None:
        """Send it, once; any error says that it was not sent, and it is tried again."""


class SlackNotifier(dg.ConfigurableResource["SlackNotifier"]):
    """A message in a channel, with the client of dagster-slack."""

    token: str = Field(repr=False, description="Bot token, from ALERT_SLACK_TOKEN.")
    channel: str = Field(description="Name or id of the channel.")
    url: str = Field(description="Base URL of Slack's API.")

    def send(self, alert: Alert) -> None:
        """Send it.

        Raises:
            slack_sdk.errors.SlackApiError, OSError: Slack refuses, or cannot be reached.
        """
        from dagster_slack import SlackResource  # of an extra that only this needs

        client = SlackResource(token=self.token).get_client()
        client.base_url = f"{self.url.rstrip('/')}/"
        client.timeout = SECONDS
        text = f"{alert.title}\n{alert.text}"
        if len(text) > MOST_CHARACTERS:
            text = f"{text[:MOST_CHARACTERS]} ..."
        # https://docs.slack.dev/messaging/formatting-message-text/#escaping
        for character, escaped in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
            text = text.replace(character, escaped)
        client.chat_postMessage(channel=self.channel, text=text, mrkdwn=False, unfurl_links=False)


class EmailNotifier(dg.ConfigurableResource["EmailNotifier"]):
    """A mail in plain text. Dagster's own mails are of failed runs alone, and take the error for HTML."""

    host: str = Field(description="SMTP server.")
    port: int | None = Field(default=None, description="Its port; that of the kind of TLS by default.")
    security: str = Field(default="starttls", description="ssl, starttls or none.")
    user: str | None = Field(default=None, description="User to log in as; None for no login.")
    password: str | None = Field(default=None, repr=False, description="From ALERT_SMTP_PASSWORD.")
    sender: str = Field(description="Address of the sender.")
    recipients: list[str] = Field(description="Addresses.")

    def send(self, alert: Alert) -> None:
        """Send it.

        Raises:
            smtplib.SMTPException, OSError: the server refuses, or cannot be reached or trusted.
        """
        mail = EmailMessage()
        mail["Subject"] = alert.title
        mail["From"] = self.sender
        mail["To"] = ", ".join(self.recipients)
        mail["Date"] = formatdate()
        mail["Message-ID"] = make_msgid(domain=self.sender.rpartition("@")[2])
        mail.set_content(alert.text)
        with self._connect() as server:
            if self.user:
                server.login(self.user, self.password or "")
            server.send_message(mail)

    def _connect(self) -> smtplib.SMTP:
        port = self.port or SMTP_PORTS[self.security]
        trust = ssl.create_default_context()
        if self.security == "ssl":
            return smtplib.SMTP_SSL(self.host, port, timeout=SECONDS, context=trust)
        server = smtplib.SMTP(self.host, port, timeout=SECONDS)
        if self.security == "starttls":
            try:
                server.starttls(context=trust)
            except BaseException:
                server.close()
                raise
        return server
