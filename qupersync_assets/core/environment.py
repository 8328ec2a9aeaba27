"""The environment of the process, to which a file adds what it lacks."""

import os
import stat
from io import StringIO
from pathlib import Path

from dotenv import dotenv_values

from qupersync_assets.core.redaction import SECRET_SUFFIXES, URL_SUFFIXES, learn_secret

ENV_FILE = Path(".env")
# The folder of the Dagster instance of `make up` and `make demo`, unless DAGSTER_HOME names another one.
DAGSTER_FOLDER = Path(".qupersync/dagster")
# The settings of `qupersync demo` in the same folder.
DEMO_ENV_FILE = Path(".qupersync/demo.env")
# The file and the names of the variables that were taken from it, for child processes.
_FILE, _NAMES = "QUPERSYNC_ENV_FILE", "QUPERSYNC_ENV_FILE_NAMES"
# The names of the secrets that were taken from files of their own, for child processes.
_SECRET_NAMES, _SECRET_FILE = "QUPERSYNC_SECRET_FILES", "_FILE"
# Permissions of others than the file's user.
_OF_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_loaded: list[Path] = []
_OWN = ("REDSHIFT_", "POSTGRES_", "CELERY_", "ALERT_URLS")


class EnvFileError(ValueError):
    """The file with variables cannot be read; the text is one sentence."""


def load_env_file(path: Path = ENV_FILE) -> None:
    """Set the variables of a file that are not set or empty in the environment, which takes precedence.

    Nothing in a value is replaced. A missing file has no variables.

    Raises:
        EnvFileError: the file cannot be read as UTF-8.
    """
    taken = []
    for name, value in _read(path).items():
        if value and not os.environ.get(name):
            os.environ[name] = value
            taken.append(name)
    if taken:
        os.environ.update({_FILE: str(path.resolve()), _NAMES: ",".join(taken)})


def env_file_hint() -> str:
    """Return what to do where settings are missing: say whether there is a file, and what needs none."""
    path = (_loaded or [ENV_FILE])[-1].resolve()
    if path.exists():
        return f"They are read from the environment, and then from {path}."
    text = f"There is no file {path}: `qupersync init` writes it."
    if DEMO_ENV_FILE.exists():
        return f"{text} To use the settings of the demo: qupersync --env-file {DEMO_ENV_FILE} ..."
    return f"{text} `make demo` needs none."


def current_value(name: str) -> str | None:
    """Return a variable's present value: that in the file if the process, or its parent, has taken it from there.

    A password that is changed in the file is thereby used without a restart. None if it is set nowhere.
    """
    value = os.environ.get(name)
    try:
        if name in _listed(_SECRET_NAMES):
            return _read_secret(Path(os.environ.get(name + _SECRET_FILE, "")))
        if name in _listed(_NAMES):
            return (_read(Path(os.environ[_FILE])).get(name) or "").rstrip("\r\n") or value
    except EnvFileError:
        pass
    return value


def current_secret(name: str) -> str | None:
    """Return the present value of a variable with a secret, which texts do not show from now on."""
    value = current_value(name)
    learn_secret(value)
    return value


def read_secrets() -> dict[str, str]:
    """Set each secret NAME to the content of the file of NAME_FILE, for this process and its children.

    Line ends at the end of a value, which files of secrets have, are removed.

    Returns:
        What is wrong, by the name of the variable: the file cannot be read or is empty, or NAME is set too.
    """
    taken, problems = _listed(_SECRET_NAMES), {}
    for variable, path in list(os.environ.items()):
        name = variable.removesuffix(_SECRET_FILE)
        if name == variable or not path or not _is_secret(name):
            continue
        if os.environ.get(name) and name not in taken:
            problems[variable] = f"allowed is this or {name}, not both"
            continue
        try:
            os.environ[name] = _read_secret(Path(path))
        except EnvFileError as error:
            problems[variable] = str(error)
            continue
        os.environ[variable] = str(Path(path).resolve())  # other processes work in other folders
        taken.add(name)
        os.environ[_SECRET_NAMES] = ",".join(sorted(taken))
    for name, value in os.environ.items():
        if name.upper().startswith(_OWN) and value.endswith(("\n", "\r")):
            os.environ[name] = value.rstrip("\r\n")
    return problems


def _is_secret(name: str) -> bool:
    return name.startswith(_OWN) and name.endswith((*SECRET_SUFFIXES, *URL_SUFFIXES))


def _read_secret(path: Path) -> str:
    try:
        text = path.read_text("utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        why = (error.strerror if isinstance(error, OSError) else None) or "it is not in UTF-8"
        raise EnvFileError(f"{path} cannot be read: {why}") from None
    if not text:
        raise EnvFileError(f"{path} is empty")
    return text


def _listed(variable: str) -> set[str]:
    return {name for name in os.environ.get(variable, "").split(",") if name}


def _read(path: Path) -> dict[str, str | None]:
    _loaded[:] = [path]
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise EnvFileError(f"{path} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise EnvFileError(f"{path} is not in UTF-8: save it again in this encoding.")
    return dotenv_values(stream=StringIO(text), interpolate=False)


def exposed_env_file() -> tuple[Path | None, str | None]:
    """Return the file that `load_env_file` read last, None if there is none, and its permissions such as -rw-r--r-- if
    they let other users of this machine use it."""
    for path in _loaded:
        if path.exists():
            mode = path.stat().st_mode
            return path, stat.filemode(mode) if mode & _OF_OTHERS else None
    return None, None


def write_private(path: Path, text: str) -> None:
    """Replace a file atomically; only its owner may read it."""
    new = path.with_name(path.name + ".new")
    new.touch(mode=0o600)
    new.chmod(0o600)
    new.write_text(text, encoding="utf-8")
    new.replace(path)
