"""The interface that decides whether a process may log in: postgres implements it, and redshift calls it."""

from collections.abc import Callable
from typing import Protocol, TypeVar

from qupersync_assets.settings.redshift_login import RedshiftSettings

T = TypeVar("T")


class LoginGate(Protocol):
    """Lets logins of a cluster pass one at a time, and none after one that the cluster has refused."""

    def attempt(
        self,
        login: RedshiftSettings,
        resolve: Callable[[RedshiftSettings], RedshiftSettings],
        connect: Callable[[RedshiftSettings], T],
        *,
        is_main: bool,
    ) -> T:
        """Return `connect(resolve(login))`; `is_main` is whether it is the database of the settings.

        Raises:
            SyncError: the login failed, or one of the same run has failed for a reason that concerns this one too.
        """


class OpenGate:
    """Lets each login pass: for commands of people, which log in once."""

    def attempt(
        self,
        login: RedshiftSettings,
        resolve: Callable[[RedshiftSettings], RedshiftSettings],
        connect: Callable[[RedshiftSettings], T],
        *,
        is_main: bool,
    ) -> T:
        return connect(resolve(login))
