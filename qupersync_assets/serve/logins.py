"""Tests the logins of both databases before `make up` starts its processes."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from qupersync_assets.core.errors import ErrorClass, SyncError
from qupersync_assets.core.redaction import redact
from qupersync_assets.postgres.resource import PostgresResource
from qupersync_assets.redshift.resource import RedshiftResource
from qupersync_assets.serve.supervisor import ServeError
from qupersync_assets.settings import Settings
from qupersync_assets.settings.redshift_login import RedshiftSettings

# The exit code of `make up` after a refused login (EX_CONFIG of sysexits.h): a service manager must not repeat it,
# because Redshift locks a user after five refused logins.
REFUSED = 78


class LoginRefused(ServeError):
    """Each cluster refuses its login; the text has one sentence for each."""


def check_logins(settings: Settings, report: Callable[[str], None]) -> None:
    """Log in to PostgreSQL and to all clusters at the same time; report those that cannot be used now.

    A cluster that cannot be reached may be paused, and one of several may have a wrong password: the others sync.

    Raises:
        SyncError: PostgreSQL cannot be used, or through a pooler in transaction mode.
        LoginRefused: each cluster refuses its login.
    """
    with PostgresResource(settings).transaction():
        pass
    sources = settings.by_cluster()
    with ThreadPoolExecutor(len(sources)) as pool:
        errors = dict(zip(sources, pool.map(login_error, sources.values()), strict=True))
    sentences = {name: redact(str(error)) for name, error in errors.items() if error}
    if all(error and error.error_class is ErrorClass.FATAL for error in errors.values()):
        raise LoginRefused("\n".join(dict.fromkeys(sentences.values())))
    for name, sentence in sentences.items():
        report(f"Cluster {name} is tried again at each sync. {sentence}")


def login_error(source: RedshiftSettings) -> SyncError | None:
    """Log in to a cluster; return why this failed, else None."""
    redshift = RedshiftResource(source)
    try:
        with redshift.session():
            return None
    except SyncError as error:
        return error
    finally:
        redshift.dispose()
