"""`qupersync doctor`: looks at both databases as a sync would find them, and says what to do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from qupersync_assets.defs.resources import postgres_resource, redshift_resource
from qupersync_assets.doctor import postgres, redshift
from qupersync_assets.doctor.report import Finding
from qupersync_assets.settings import Settings
from qupersync_assets.settings.redshift import RedshiftSettings
from qupersync_assets.sync_jobs import all_specs

__all__ = ["Finding", "examine"]


def examine(settings: Settings) -> Iterator[Finding]:
    """All findings, as they come; nothing is changed in any database."""
    sources = settings.by_cluster()
    for cluster, source in sources.items():
        for finding in redshift.examine(redshift_resource(source), all_specs(), _login(source)):
            yield replace(finding, cluster=cluster) if len(sources) > 1 else finding
    yield from postgres.examine(postgres_resource(settings))


def _login(settings: RedshiftSettings) -> str:
    """How one logs in to Redshift, without anything secret."""
    if settings.redshift_secret_arn:
        how = f"secret {settings.redshift_secret_arn}"
    elif settings.redshift_iam:
        how = f"IAM, {settings.redshift_workgroup or settings.redshift_cluster_identifier}"
    else:
        how = f"password of {settings.redshift_user}"
    tls = f"TLS {settings.redshift_sslmode}" if settings.redshift_ssl else "no TLS"
    host = settings.redshift_host or "the endpoint that AWS tells"
    return f"{how} at {host}:{settings.redshift_port}, database {settings.redshift_database}, {tls}"
