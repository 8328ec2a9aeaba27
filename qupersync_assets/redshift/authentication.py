"""Logs in to Redshift: the driver's arguments, AWS secrets and private certificate authorities."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import BaseModel, Field

from qupersync_assets.settings.redshift_login import _CREDENTIALS, renamed

_environment = threading.Lock()


class LoginError(ValueError):
    """What is needed for a login is not there; the text says what, and holds no secret."""


class Aws(BaseModel):
    """How AWS tells the password: with IAM, or in a secret; neither if there is one without AWS."""

    iam: bool = Field(default=False, description="Whether to log in with temporary credentials of IAM.")
    cluster_identifier: str | None = Field(default=None, description="IAM: the provisioned cluster.")
    workgroup: str | None = Field(default=None, description="IAM: the workgroup of Serverless.")
    account_id: str | None = Field(default=None, description="IAM: the AWS account of the workgroup.")
    region: str | None = Field(default=None, description="IAM: the AWS region, if the host does not tell it.")
    secret_arn: str | None = Field(default=None, description="Secret that holds user and password.")
    profile: str | None = Field(default=None, description="Profile of the AWS configuration files.")
    access_key_id: str | None = Field(default=None, repr=False, description="AWS access key.")
    secret_access_key: str | None = Field(default=None, repr=False, description="Its secret half.")
    session_token: str | None = Field(
        default=None, repr=False, description="Its session token, if temporary."
    )
    prefix: str = Field(default="REDSHIFT", description="What the names of its variables begin with.")

    @property
    def variables(self) -> str:
        """The variables that decide whether a login succeeds, for a sentence."""
        if self.secret_arn:
            text = "REDSHIFT_SECRET_ARN, what it holds, and the AWS identity's rights"
        elif self.iam and self.workgroup:
            text = "REDSHIFT_WORKGROUP, REDSHIFT_REGION and the AWS identity's rights"
        elif self.iam:
            text = "REDSHIFT_CLUSTER_IDENTIFIER, REDSHIFT_USER, REDSHIFT_REGION and the AWS identity's rights"
        else:
            text = "REDSHIFT_USER and REDSHIFT_PASSWORD"
        return renamed(text, self.prefix)


@dataclass(frozen=True)
class Account:
    """Where to log in, and as whom; None is what AWS has to tell."""

    host: str | None
    port: int
    database: str | None
    user: str | None = None
    password: str | None = field(default=None, repr=False)

    def __str__(self) -> str:
        return f"{self.host}:{self.port}" if self.host else "the endpoint that AWS tells"


def login_arguments(account: Account, aws: Aws) -> dict[str, Any]:
    """The driver's keyword arguments that say where to log in and how; those that are not set are left out.

    With IAM the driver calls GetClusterCredentials, or GetCredentials of Serverless, and, without a host,
    DescribeClusters or GetWorkgroup: https://docs.aws.amazon.com/redshift/latest/mgmt/generating-user-credentials.html.
    """
    arguments: dict[str, Any] = {"host": account.host, "port": account.port, "database": account.database}
    if not aws.iam:
        arguments |= {"user": account.user, "password": account.password or ""}
    else:
        # The driver's cache hands out credentials up to the moment when they expire, so that they may have
        # expired at the server; and connections are few, each can have credentials of its own.
        arguments |= {"iam": True, "iam_disable_cache": True, "region": aws.region}
        arguments |= {name: getattr(aws, name) for name in _CREDENTIALS}
        if aws.workgroup:
            arguments |= {
                "is_serverless": True,
                "serverless_work_group": aws.workgroup,
                "serverless_acct_id": aws.account_id,
            }
        else:
            arguments |= {"cluster_identifier": aws.cluster_identifier, "db_user": account.user}
    return {name: value for name, value in arguments.items() if value is not None}


def with_secret(account: Account, aws: Aws) -> Account:
    """The account, completed with what the secret holds now.

    User and password are the secret's. What the account says of the database and, host and port together, of
    the endpoint goes before what the secret says.

    Raises:
        LoginError: the secret is not JSON, or lacks something; its text is not told.
        botocore.exceptions.BotoCoreError, ClientError: AWS cannot be asked, or refuses.
    """
    named = f"The secret of {aws.prefix}_SECRET_ARN"
    try:
        secret = json.loads(_read_secret(aws))
    except ValueError:
        secret = None
    if not isinstance(secret, dict):
        raise LoginError(f"{named} is not a JSON object")
    # https://docs.aws.amazon.com/secretsmanager/latest/userguide/reference_secret_json_structure.html has
    # dbname; secrets for other tools spell it otherwise.
    held = {str(name).lower(): value for name, value in secret.items() if value not in (None, "")}
    database = account.database or held.get("dbname") or held.get("database")
    told = {"username": held.get("username"), "password": held.get("password")}
    if not account.host:
        told["host"] = held.get("host")
    missing = [name for name, value in {**told, "dbname": database}.items() if not value]
    if missing:
        instead = {"host": f" or set {aws.prefix}_HOST", "dbname": f" or set {aws.prefix}_DATABASE"}
        raise LoginError(
            f"{named} lacks {', '.join(missing)}: add it"
            + "".join(text for name, text in instead.items() if name in missing)
        )
    try:
        port = account.port if account.host else int(held.get("port", account.port))
    except (TypeError, ValueError):
        raise LoginError(f"The port in the secret of {aws.prefix}_SECRET_ARN is not a number") from None
    return replace(
        account,
        host=account.host or str(told["host"]),
        port=port,
        database=str(database),
        user=str(told["username"]),
        password=str(told["password"]),
    )


def _read_secret(aws: Aws) -> str:
    """https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_GetSecretValue.html"""
    import boto3  # slow to import, and only this login needs it

    arn = str(aws.secret_arn)
    session = boto3.Session(
        profile_name=aws.profile,
        aws_access_key_id=aws.access_key_id,
        aws_secret_access_key=aws.secret_access_key,
        aws_session_token=aws.session_token,
        region_name=arn.split(":")[3],
    )
    return str(session.client("secretsmanager").get_secret_value(SecretId=arn).get("SecretString"))


@contextmanager
def trusting(ca: str | None) -> Iterator[None]:
    """Let the TLS context that the driver makes meanwhile trust the CAs of the PEM file `ca` too.

    The driver has no parameter for a CA: it loads OpenSSL's default certificates and the bundle of Redshift's
    CAs that it ships. OpenSSL's own variable SSL_CERT_FILE says which file has the defaults
    (https://docs.openssl.org/3.0/man3/SSL_CTX_load_verify_locations/), so it is set as long as the driver
    connects; the default directory and the bundle stay trusted. boto3 does not look at it. None sets nothing.
    """
    if ca is None:
        yield
        return
    with _environment:
        before = os.environ.get("SSL_CERT_FILE")
        os.environ["SSL_CERT_FILE"] = ca
        try:
            yield
        finally:
            if before is None:
                del os.environ["SSL_CERT_FILE"]
            else:
                os.environ["SSL_CERT_FILE"] = before
