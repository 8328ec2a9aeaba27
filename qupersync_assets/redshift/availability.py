"""Whether a cluster can be reached, found out without a login and without a query, which cost nothing."""

import re
import socket
from contextlib import suppress
from typing import Any

from qupersync_assets.core.errors import PAUSED, ErrorClass, SyncError
from qupersync_assets.redshift.authentication import aws_session
from qupersync_assets.settings.redshift_login import AwsLogin, IamClusterLogin, IamServerlessLogin, RedshiftSettings

# The schedule waits for it.
_SECONDS = 3.0
# https://docs.aws.amazon.com/redshift/latest/mgmt/connecting-from-psql.html: the endpoint begins with the identifier.
_ENDPOINT = re.compile(r"([a-z0-9-]+)\.[a-z0-9]+\.([a-z]+(?:-[a-z]+)+-\d)\.redshift\.amazonaws\.com(?:\..+)?")


def answers(login: RedshiftSettings) -> bool:
    """Return whether a cluster can be reached: its port accepts a connection, or AWS reports that it is available."""
    if not login.host:
        return (_status(login) or "").lower() == "available"
    with suppress(OSError):
        socket.create_connection((login.host, login.port), timeout=min(_SECONDS, login.connect_timeout)).close()
        return True
    return False


def paused_error(login: RedshiftSettings) -> SyncError | None:
    """Return an error that says that AWS reports the cluster as paused; None if it does not, or may not be asked."""
    status = _status(login)
    # https://docs.aws.amazon.com/redshift/latest/APIReference/API_Cluster.html
    if status not in ("paused", "pausing", "resuming"):
        return None
    text = (
        f"The cluster is paused (AWS reports: {status}). It is synced soon after it is resumed; "
        f"{login.prefix}_QUIET_HOURS names hours in which it is left alone."
    )
    return SyncError(text, ErrorClass.TRANSIENT, problem=PAUSED)


def _status(login: RedshiftSettings) -> str | None:
    """Return the status of a cluster or workgroup; None if it cannot be found out, for example without privileges.

    It needs redshift:DescribeClusters, or redshift-serverless:GetWorkgroup.
    """
    cluster, region = _cluster(login)
    workgroup = login.workgroup if isinstance(login, IamServerlessLogin) else None
    if cluster is None and workgroup is None:
        return None
    with suppress(Exception):  # of boto3, whose credentials and privileges are optional here
        from botocore.config import Config  # type: ignore[import-untyped]

        brief = Config(connect_timeout=_SECONDS, read_timeout=_SECONDS, retries={"max_attempts": 0})
        session = aws_session(login if isinstance(login, AwsLogin) else None, region)
        found: Any
        if workgroup is not None:
            client = session.client("redshift-serverless", config=brief)
            found = client.get_workgroup(workgroupName=workgroup)["workgroup"]["status"]
        else:
            client = session.client("redshift", config=brief)
            found = client.describe_clusters(ClusterIdentifier=cluster)["Clusters"][0]["ClusterStatus"]
        return str(found)
    return None


def _cluster(login: RedshiftSettings) -> tuple[str | None, str | None]:
    """Return the identifier and the region of a provisioned cluster, as far as the settings contain them."""
    endpoint = _ENDPOINT.fullmatch(login.host or "")
    region = getattr(login, "region", None) or (endpoint[2] if endpoint else None)
    if isinstance(login, IamClusterLogin):
        return login.cluster_identifier, region
    return (endpoint[1] if endpoint else None), region
