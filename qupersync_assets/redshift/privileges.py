"""Privileges of the login user in Redshift, and the SQL that grants more.

Some system views show an ordinary user only the rows of its own work, without an error:
https://docs.aws.amazon.com/redshift/latest/dg/c_visibility-of-data.html and docs/reference/redshift.md.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from qupersync_assets.core.errors import INSUFFICIENT_PRIVILEGE, UNDEFINED_TABLE, SyncError
from qupersync_assets.core.sql import quote_identifier
from qupersync_assets.redshift.session import Session

# By https://docs.aws.amazon.com/redshift/latest/dg/r_roles-default.html.
MONITOR = "sys:monitor"


@dataclass(frozen=True)
class Privileges:
    """Privileges of a user beyond grants on single views: SYSLOG ACCESS UNRESTRICTED, directly granted roles."""

    user: str
    superuser: bool
    syslog: bool
    roles: tuple[str, ...]

    @property
    def sees_all_rows(self) -> bool:
        """Whether the user sees the rows of all users in such views."""
        return self.superuser or self.syslog or MONITOR in self.roles

    def __str__(self) -> str:
        if self.superuser:
            return "superuser"
        access = ["SYSLOG ACCESS UNRESTRICTED"] if self.syslog else []
        return " and ".join(access + [f"role {role}" for role in self.roles]) or "ordinary user"


def find_privileges(session: Session) -> Privileges:
    """Return the privileges of the session's user; those that an old cluster cannot report count as absent."""
    user: str = session.rows("SELECT current_user::varchar(128)")[0][0]
    # svv_user_info exists since patch 172.
    info = _rows(session, "SELECT superuser, syslog_access FROM svv_user_info WHERE user_name = current_user")
    if not info:
        info = _rows(session, "SELECT usesuper, NULL FROM pg_user WHERE usename = current_user")
    superuser, syslog = info[0] if info else (False, None)
    roles = []
    if not superuser and syslog != "UNRESTRICTED":
        roles = _rows(session, "SELECT role_name FROM svv_user_grants WHERE user_name = current_user")
    return Privileges(user, bool(superuser), syslog == "UNRESTRICTED", tuple(sorted(name for (name,) in roles)))


def _rows(session: Session, statement: str) -> list[tuple[Any, ...]]:
    try:
        return [tuple(row) for row in session.rows(statement)]
    except SyncError as error:
        if error.sqlstate not in (UNDEFINED_TABLE, INSUFFICIENT_PRIVILEGE):
            raise
        return []


def grant_select(views: Sequence[str], user: str) -> str:
    """Return the statement that lets a user read views."""
    return f"GRANT SELECT ON {', '.join(views)} TO {quote_identifier(user)};"


def grant_connect(database: str, user: str) -> str:
    """Return the statement that lets a user connect to a database; AWS documents that all users may."""
    return f"GRANT CONNECT ON DATABASE {quote_identifier(database)} TO {quote_identifier(user)};"


def grant_all_rows(user: str) -> str:
    """Return two statements; either of them lets a user see the rows of all users."""
    name = quote_identifier(user)
    return f"GRANT ROLE {MONITOR} TO {name}; or ALTER USER {name} SYSLOG ACCESS UNRESTRICTED;"
