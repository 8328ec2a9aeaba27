"""How to log in to Redshift: by password, with IAM, or with a secret of AWS Secrets Manager.

Imports nothing of ours. What the driver needs is passed on to it: the parameters are those of
https://docs.aws.amazon.com/redshift/latest/mgmt/python-configuration-options.html.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import TypeAdapter, ValidationError

# https://docs.aws.amazon.com/redshift/latest/mgmt/serverless-connecting.html: a host may name its region.
_HOST_WITH_REGION = re.compile(r".+\.[a-z]+(-[a-z]+)+-\d\.redshift(-serverless)?\.amazonaws\.com(\..+)?")

_CREDENTIALS = ("profile", "access_key_id", "secret_access_key", "session_token")


def renamed(text: str, prefix: str) -> str:
    """A text of ours about REDSHIFT_*, about the variables of a cluster whose prefix is another."""
    return text.replace("REDSHIFT_", f"{prefix}_")


def login_faults(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What is wrong with a combination of settings: the field and a sentence, or "" where it is missing.

    Args:
        values: by field, as they stand in the environment. Faults of single values are not looked for.
    """
    given = {name.removeprefix("redshift_") for name, value in values.items() if value not in (None, "")}
    try:
        iam = TypeAdapter(bool).validate_python(values.get("redshift_iam", False))
        tls = TypeAdapter(bool).validate_python(values.get("redshift_ssl", True))
    except ValidationError:
        return  # told already, and the rest depends on it
    secret = "secret_arn" in given

    if iam and secret:
        yield "redshift_secret_arn", "allowed is this or REDSHIFT_IAM=true, not both"
    if "host" not in given and not secret and not (iam and given & {"cluster_identifier", "workgroup"}):
        yield "redshift_host", ""
    if "database" not in given and not secret:
        yield "redshift_database", ""
    told_by = (
        "REDSHIFT_SECRET_ARN" if secret else "REDSHIFT_WORKGROUP" if iam and "workgroup" in given else ""
    )
    if told_by and "user" in given:
        yield "redshift_user", f"allowed is this or {told_by}, which tells the user, not both"
    if not told_by and "user" not in given:
        yield "redshift_user", ""
    # Without either a missing password is left to the server to refuse: some let a user in without.
    if (iam or secret) and "password" in given:
        other = "REDSHIFT_SECRET_ARN" if secret else "REDSHIFT_IAM=true"
        yield "redshift_password", f"allowed is this or {other}, which gets a password, not both"
    if "ssl_ca" in given and not tls:
        yield "redshift_ssl_ca", "allowed only with REDSHIFT_SSL=true"
    yield from _iam_faults(values, given, tls) if iam else _plain_faults(given)
    yield from _credential_faults(given, iam or secret)


def _iam_faults(values: Mapping[str, Any], given: set[str], tls: bool) -> Iterator[tuple[str, str]]:
    if not tls:
        yield "redshift_ssl", "allowed with REDSHIFT_IAM=true is true"
    if len(given & {"cluster_identifier", "workgroup"}) != 1:
        one = "REDSHIFT_IAM=true needs one of this and, for Serverless, REDSHIFT_WORKGROUP"
        yield "redshift_cluster_identifier", one
    if "account_id" in given and "workgroup" not in given:
        yield "redshift_account_id", "allowed only with REDSHIFT_WORKGROUP"
    if "region" not in given and not _HOST_WITH_REGION.fullmatch(str(values.get("redshift_host"))):
        yield "redshift_region", "REDSHIFT_IAM=true needs it, as REDSHIFT_HOST does not tell the region"


def _plain_faults(given: set[str]) -> Iterator[tuple[str, str]]:
    for name in ("cluster_identifier", "workgroup", "account_id", "region"):
        if name in given:
            yield f"redshift_{name}", "allowed only with REDSHIFT_IAM=true"


def _credential_faults(given: set[str], used: bool) -> Iterator[tuple[str, str]]:
    if not used:
        for name in _CREDENTIALS:
            if name in given:
                yield f"redshift_{name}", "allowed only with REDSHIFT_IAM=true or REDSHIFT_SECRET_ARN"
        return
    if "profile" in given and "access_key_id" in given:
        yield "redshift_profile", "allowed is this or REDSHIFT_ACCESS_KEY_ID, not both"
    if "access_key_id" in given and "secret_access_key" not in given:
        yield "redshift_secret_access_key", "REDSHIFT_ACCESS_KEY_ID needs it"
    for name in ("secret_access_key", "session_token"):
        if name in given and "access_key_id" not in given:
            yield f"redshift_{name}", "allowed only with REDSHIFT_ACCESS_KEY_ID"
