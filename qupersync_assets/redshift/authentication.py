"""Logs in to Redshift: the driver's arguments, AWS secrets and private certificate authorities."""

import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from qupersync_assets.core.redaction import learn_secret
from qupersync_assets.settings import redshift_login as logins

_environment = threading.Lock()


class LoginError(ValueError):
    """The AWS secret lacks something that the login needs; the text says what, and contains no secret."""


def login_arguments(login: logins.RedshiftSettings) -> dict[str, Any]:
    """Return the driver's keyword arguments for the endpoint and the login, without those that are not set.

    With IAM the driver calls GetClusterCredentials, or GetCredentials of Serverless, and, without a host,
    DescribeClusters or GetWorkgroup: https://docs.aws.amazon.com/redshift/latest/mgmt/generating-user-credentials.html.
    The parameters: https://docs.aws.amazon.com/redshift/latest/mgmt/python-configuration-options.html.
    """
    arguments: dict[str, Any] = {"host": login.host, "port": login.port, "database": login.database}
    if isinstance(login, logins.PasswordLogin):
        arguments |= {"user": login.user, "password": _plain(login.password) or ""}
    if isinstance(login, logins.IamLogin):
        # The driver's cache returns credentials until they expire, so that they may have expired at the
        # server. There are few connections: each gets its own credentials.
        arguments |= {"iam": True, "iam_disable_cache": True, "region": login.region, **_credentials(login)}
    if isinstance(login, logins.IamClusterLogin):
        arguments |= {"cluster_identifier": login.cluster_identifier, "db_user": login.user}
    if isinstance(login, logins.IamServerlessLogin):
        arguments |= {"is_serverless": True, "serverless_work_group": login.workgroup}
        arguments["serverless_acct_id"] = login.account_id
    return {name: value for name, value in arguments.items() if value is not None}


def resolved(login: logins.RedshiftSettings) -> logins.RedshiftSettings:
    """Return the login with what AWS Secrets Manager has now, or the login itself; it raises as `with_secret`."""
    return with_secret(login) if isinstance(login, logins.SecretLogin) else login


def with_secret(login: logins.SecretLogin) -> logins.PasswordLogin:
    """Return the login with the user and the password that the AWS secret contains now.

    Host (with its port) and database are those of the settings, or of the secret if they are not set.

    Raises:
        LoginError, BotoCoreError, ClientError: the secret is not JSON or lacks something, or AWS gives none.
    """
    name = f"The secret of {login.prefix}_SECRET_ARN"
    try:
        secret = json.loads(_read_secret(login))
    except ValueError:
        secret = None
    if not isinstance(secret, dict):
        raise LoginError(f"{name} is not a JSON object")
    # https://docs.aws.amazon.com/secretsmanager/latest/userguide/reference_secret_json_structure.html has
    # dbname; secrets for other tools spell it otherwise.
    values = {str(key).lower(): value for key, value in secret.items() if value not in (None, "")}
    found = {
        "username": values.get("username"),
        "password": values.get("password"),
        "host": login.host or values.get("host"),
        "dbname": login.database or values.get("dbname") or values.get("database"),
    }
    if missing := [key for key, value in found.items() if not value]:
        variables = {"host": f" or set {login.prefix}_HOST", "dbname": f" or set {login.prefix}_DATABASE"}
        instead = "".join(variables.get(key, "") for key in missing)
        raise LoginError(f"{name} lacks {', '.join(missing)}: add it{instead}")
    try:
        port = login.port if login.host else int(values.get("port", login.port))
    except (TypeError, ValueError):
        raise LoginError(f"The port in the secret of {login.prefix}_SECRET_ARN is not a number") from None
    values = {field: getattr(login, field) for field in logins.RedshiftSettings.model_fields}
    values |= {"host": str(found["host"]), "port": port, "database": str(found["dbname"])}
    # Without validation, which would read the file of the CA again.
    password = SecretStr(str(found["password"]))
    return logins.PasswordLogin.model_construct(**values, user=str(found["username"]), password=password)


def _read_secret(login: logins.SecretLogin) -> str:
    """https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_GetSecretValue.html"""
    session = aws_session(login, login.secret_arn.split(":")[3])
    return str(session.client("secretsmanager").get_secret_value(SecretId=login.secret_arn).get("SecretString"))


def _learn_keys(session: Any) -> None:
    """Register the AWS keys of a session of boto3, which may come from a file or the machine, for redaction."""
    if found := session.get_credentials():
        keys = found.get_frozen_credentials()
        for secret in (keys.access_key, keys.secret_key, keys.token):
            learn_secret(secret)


@cache
def learn_temporary_logins() -> None:
    """Register AWS keys and the passwords of IAM for redaction, as the driver gets them; the first call suffices.

    The driver has no parameter for it. boto3's events:
    https://docs.aws.amazon.com/boto3/latest/guide/events.html
    """
    from redshift_connector.iam_helper import IamHelper

    make_client = IamHelper.get_boto3_redshift_client

    def make_learning_client(cred_provider: Any, info: Any) -> Any:
        holder = cred_provider.get_credentials()
        if holder.has_associated_session:
            _learn_keys(holder.get_boto_session())
        client = make_client(cred_provider, info)
        client.meta.events.register("after-call", _learn_password)
        return client

    IamHelper.get_boto3_redshift_client = make_learning_client  # type: ignore[method-assign]


def _learn_password(parsed: dict[str, Any], **_: Any) -> None:
    # The operations GetClusterCredentials, and GetCredentials of Serverless.
    learn_secret(parsed.get("DbPassword") or parsed.get("dbPassword"))


def aws_session(login: logins.AwsLogin | None, region: str | None) -> Any:
    """Return a session of boto3 with the identity of a login, or that of the environment."""
    import boto3  # slow to import, and few logins need it

    credentials = _credentials(login) if login else {}
    profile = credentials.pop("profile", None)
    keys = {f"aws_{name}": value for name, value in credentials.items()}
    session = boto3.Session(profile_name=profile, **keys, region_name=region)
    _learn_keys(session)
    return session


def _credentials(login: logins.AwsLogin) -> dict[str, str | None]:
    return {
        "profile": login.profile,
        "access_key_id": _plain(login.access_key_id),
        "secret_access_key": _plain(login.secret_access_key),
        "session_token": _plain(login.session_token),
    }


def _plain(secret: SecretStr | None) -> str | None:
    return secret.get_secret_value() if secret else None


@contextmanager
def trusting(ca: Path | None) -> Iterator[None]:
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
        os.environ["SSL_CERT_FILE"] = str(ca)
        try:
            yield
        finally:
            if before is None:
                del os.environ["SSL_CERT_FILE"]
            else:
                os.environ["SSL_CERT_FILE"] = before
