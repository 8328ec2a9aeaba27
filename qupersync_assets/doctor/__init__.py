"""`qupersync doctor`: examines both databases as a sync uses them, and lists problems with their fixes."""

import shlex
from collections.abc import Iterator
from dataclasses import replace

from qupersync_assets.core.environment import exposed_env_file
from qupersync_assets.doctor import postgres, redshift, storage
from qupersync_assets.doctor.report import Finding
from qupersync_assets.postgres.resource import postgres_resource
from qupersync_assets.redshift.resource import RedshiftResource
from qupersync_assets.settings import Settings
from qupersync_assets.settings import redshift_login as logins
from qupersync_assets.sync.job_choice import cluster_interval, jobs_by_cluster, jobs_on

__all__ = ["Finding", "examine"]


def examine(settings: Settings) -> Iterator[Finding]:
    """Yield all findings; change nothing in either database."""
    yield _env_file()
    sources = settings.by_cluster()
    specs = jobs_by_cluster(settings)
    for cluster, source in sources.items():
        for finding in redshift.examine(
            RedshiftResource(source), specs[cluster], _login(source), cluster_interval(settings, cluster)
        ):
            yield replace(finding, cluster=cluster) if len(sources) > 1 else finding
    yield from postgres.examine(postgres_resource(settings), jobs_on(settings), list(sources))
    yield from storage.examine(settings)


def _env_file() -> Finding:
    path, permissions = exposed_env_file()
    if path is None or permissions is None:
        return Finding("settings", "file", f"{path}, readable by its user only" if path else "none: variables only")
    detail = f"{path}: other users of this machine may read its passwords ({permissions})"
    return Finding("settings", "file", detail, f"chmod 600 {shlex.quote(str(path))}")


def _login(settings: logins.RedshiftSettings) -> str:
    """Describe how to log in to Redshift, without a secret."""
    match settings:
        case logins.SecretLogin():
            how = f"secret {settings.secret_arn}"
        case logins.IamServerlessLogin():
            how = f"IAM, {settings.workgroup}"
        case logins.IamClusterLogin():
            how = f"IAM, {settings.cluster_identifier}"
        case logins.PasswordLogin():
            how = f"password of {settings.user}"
    tls = f"TLS {settings.sslmode}" if settings.ssl else "no TLS"
    return f"{how} at {settings.endpoint}, database {settings.database}, {tls}"
