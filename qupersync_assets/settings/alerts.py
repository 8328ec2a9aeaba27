"""The channels of alerts, and the variables that each needs. No Dagster, and no connection."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

# Settings without which a channel is off; with one of them it needs all.
CHANNELS = {
    "slack": ("alert_slack_token", "alert_slack_channel"),
    "email": ("alert_smtp_host", "alert_email_from", "alert_email_to"),
}
# Ports that are usual for SMTP: https://www.rfc-editor.org/rfc/rfc8314#section-3, and without TLS.
SMTP_PORTS = {"ssl": 465, "starttls": 587, "none": 25}


def alert_faults(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What is wrong with a combination of settings: the field and a sentence.

    Args:
        values: by field, as they stand in the environment. Faults of single values are not looked for.
    """
    given = {name for name, value in values.items() if value not in (None, "")}
    for fields in CHANNELS.values():
        there = [field for field in fields if field in given]
        for field in fields:
            if there and field not in given:
                yield field, f"needed, because {there[0].upper()} is set"
    login = ("alert_smtp_user", "alert_smtp_password")
    for field, other in (login, login[::-1]):
        if field not in given and other in given:
            yield field, f"needed, because {other.upper()} is set"
    if "alert_smtp_user" in given and values.get("alert_smtp_security") == "none":
        yield (
            "alert_smtp_security",
            "allowed with ALERT_SMTP_USER is ssl or starttls, lest the password be read",
        )
