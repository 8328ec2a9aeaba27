"""Reads the settings of one cluster from REDSHIFT_*, or of each of several from REDSHIFT_<NAME>_*; or from values."""

import re
from collections.abc import Mapping
from typing import Any

from pydantic import SecretStr, ValidationError, create_model
from pydantic_settings import BaseSettings, EnvSettingsSource

from qupersync_assets.core.environment import current_value
from qupersync_assets.core.redaction import learn_secret
from qupersync_assets.settings.errors import COMBINATION, REDSHIFT, SettingsError, check_names, explain, is_secret
from qupersync_assets.settings.redshift_login import LOGIN, LOGINS, RedshiftSettings

# The fields of all logins.
FIELDS = {name: field for login in reversed(LOGINS) for name, field in login.model_fields.items()}
# What identifies a cluster and what proves our identity. Inherited, it would copy one cluster under the name
# of another, or send the password of one cluster to another. The shared values of sync_jobs and sync_interval are
# SYNC_JOBS and SYNC_INTERVAL.
NEVER_INHERITED = frozenset(
    {"host", "cluster_identifier", "workgroup", "account_id", "secret_arn", "password"}
    | {"profile", "access_key_id", "secret_access_key", "session_token", "sync_jobs", "sync_interval"}
)
# Fields that change when a password or a key is rotated.
_CREDENTIALS = ("user", "password", "access_key_id", "secret_access_key", "session_token")
# Fields that say when and what is synced.
_SCHEDULE = frozenset({"sync_jobs", "sync_interval", "quiet_hours"})
_Texts = create_model("_Texts", __base__=BaseSettings, **dict.fromkeys(FIELDS, (str | None, None)))  # type: ignore[call-overload]


def cluster_names(text: str) -> list[str]:
    """Return the names in the value of CLUSTERS, or raise a ValueError if they cannot name different variables."""
    names = check_names(text).split(",")
    prefixes: dict[str, str] = {}
    for name in names:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name):
            raise ValueError(f"allowed in a name are letters, digits, - and _, unlike in {name!r}")
        other = prefixes.setdefault(_prefix(name), name)
        if names.count(name) > 1:
            raise ValueError(f"{name!r} is named twice")
        if other != name:
            raise ValueError(f"{other!r} and {name!r} would have the same variables, {_prefix(name)}_*")
    return names


def load_clusters(clusters: str | None, cluster_name: str, *, logins: bool = True) -> dict[str, RedshiftSettings]:
    """Load the settings of the clusters in the value of CLUSTERS, or of one cluster if it is not set.

    An invalid CLUSTERS gives no cluster; a variable that is missing or not allowed raises SettingsError. Without
    `logins` only what does not concern the login is read, such as the jobs that are on.
    """
    if clusters is None:
        return {cluster_name: _load_cluster() if logins else _load_schedule(REDSHIFT)}
    try:
        names = cluster_names(clusters)
    except ValueError:  # Settings reports it
        names = []
    if not logins:
        return {name: _load_schedule(_prefix(name)) for name in names}
    shared = _read(REDSHIFT)
    lines = [
        f"  {REDSHIFT}_{field.upper()}: with CLUSTERS each cluster has its own, "
        f"{REDSHIFT}_<NAME>_{field.upper()}. {FIELDS[field].description}"
        for field in sorted(shared.keys() & NEVER_INHERITED)
    ]
    loaded: dict[str, RedshiftSettings] = {}
    for name in names:
        try:
            loaded[name] = _load_cluster(_prefix(name), shared)
        except SettingsError as error:
            lines += error.lines
    if lines:
        raise SettingsError(lines)
    return loaded


def build_clusters(clusters: Mapping[str, Mapping[str, Any]]) -> dict[str, RedshiftSettings]:
    """Build the settings of clusters from their fields, by the cluster's name; None and "" are no values.

    Raises:
        SettingsError: a name is not allowed, or fields are missing or not allowed.
    """
    try:
        names = cluster_names(",".join(clusters)) if len(clusters) > 1 else list(clusters)
    except ValueError as error:
        raise SettingsError([f"  clusters: {error}."]) from None
    if not names:
        raise SettingsError(["  clusters: none is named."])
    built: dict[str, RedshiftSettings] = {}
    lines: list[str] = []
    for name in names:
        prefix = _prefix(name) if len(names) > 1 else REDSHIFT
        fields = {field: value for field, value in clusters[name].items() if value not in (None, "")}
        unknown = sorted(fields.keys() - FIELDS.keys())
        lines += [f"  {field} of cluster {name}: there is no such setting." for field in unknown]
        try:
            built[name] = LOGIN.validate_python({field: fields[field] for field in fields.keys() & FIELDS.keys()})
            built[name]._prefix, built[name]._from_environment = prefix, False
        except ValidationError as error:
            lines += [_line(problem, prefix, {}, f"of cluster {name}") for problem in error.errors()]
    if lines:
        raise SettingsError(lines)
    return built


def with_current_credentials(login: RedshiftSettings) -> RedshiftSettings:
    """Return the login with the user, the password and the keys that the file .env has now, if they are from there."""
    if not login.from_environment:
        return login
    changed: dict[str, SecretStr | str] = {}
    for field in _CREDENTIALS:
        before = getattr(login, field, None)
        text = before.get_secret_value() if isinstance(before, SecretStr) else before
        # A user may be that of REDSHIFT_USER; a secret never is another cluster's.
        names = [f"{login.prefix}_{field.upper()}", *([f"{REDSHIFT}_USER"] if field == "user" else [])]
        value = next((value for name in names if (value := current_value(name))), None)
        if text and value and value != text:
            learn_secret(value if isinstance(before, SecretStr) else None)
            changed[field] = SecretStr(value) if isinstance(before, SecretStr) else value.strip()
    return login.model_copy(update=changed)


def _load_cluster(prefix: str = REDSHIFT, shared: Mapping[str, str] = {}) -> RedshiftSettings:
    """Load the settings of one cluster, which inherits a shared value of a field that its login uses."""
    own = _read(prefix)
    inherited = {field: shared[field] for field in shared.keys() - own.keys() - NEVER_INHERITED}
    while True:
        try:
            settings = LOGIN.validate_python({**inherited, **own})
        except ValidationError as error:
            problems: list[Any] = error.errors()
        else:
            settings._prefix = prefix
            return settings
        unused = {p["loc"][-1] for p in problems if p["type"] in (COMBINATION, "extra_forbidden")}
        if not unused & inherited.keys():
            raise SettingsError([_line(problem, prefix, inherited) for problem in problems])
        inherited = {field: inherited[field] for field in inherited.keys() - unused}


def _load_schedule(prefix: str) -> RedshiftSettings:
    """Load when a cluster is synced, and which jobs, without its login."""
    own = _read(prefix)
    try:
        settings = RedshiftSettings.model_validate({field: own[field] for field in own.keys() & _SCHEDULE})
    except ValidationError as error:
        raise SettingsError([_line(problem, prefix, {}) for problem in error.errors()]) from None
    settings._prefix = prefix
    return settings


def _read(prefix: str) -> dict[str, str]:
    """Return the texts of the variables that begin with a prefix and are not empty, by field.

    White space around a text is not part of it, except in a secret.
    """
    texts = EnvSettingsSource(_Texts, env_prefix=f"{prefix}_", env_ignore_empty=True)()
    stripped = {name: text if is_secret(FIELDS[name]) else text.strip() for name, text in texts.items()}
    return {name: text for name, text in stripped.items() if text}


def _prefix(cluster: str) -> str:
    """Return what the variables of one of several clusters begin with: REDSHIFT_ and its name in capitals."""
    return f"{REDSHIFT}_{cluster.upper().replace('-', '_')}"


def _line(problem: Any, prefix: str, inherited: Mapping[str, str], of: str = "") -> str:
    """Return the line about a problem; `of` names the cluster of a field that is not from a variable."""
    method, field = problem["loc"]
    if problem["type"] == "extra_forbidden":
        methods = ", or ".join(login.method for login in LOGINS if field in login.model_fields)
        problem = {"type": COMBINATION, "msg": f"not allowed with {method}, only with {methods}"}
    variable = f"{field} {of}" if of else f"{REDSHIFT if field in inherited else prefix}_{field.upper()}"
    return explain(problem, variable, FIELDS[field], prefix)
