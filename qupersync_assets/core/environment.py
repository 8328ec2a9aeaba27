"""The environment of the process, to which a file adds what it lacks."""

import os
import stat
from io import StringIO
from pathlib import Path

from dotenv import dotenv_values

ENV_FILE = Path(".env")
# The folder of the Dagster instance of `make up` and `make demo`, unless DAGSTER_HOME names another one.
DAGSTER_FOLDER = Path(".qupersync/dagster")
# The settings of `qupersync demo` in the same folder.
DEMO_ENV_FILE = Path(".qupersync/demo.env")
# The file and the names of the variables that were taken from it, for child processes.
_FILE, _NAMES = "QUPERSYNC_ENV_FILE", "QUPERSYNC_ENV_FILE_NAMES"
# Permissions of others than the file's user.
_OF_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_loaded: list[Path] = []
_OWN = ("REDSHIFT_", "POSTGRES_", "CELERY_")


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
    if name not in os.environ.get(_NAMES, "").split(","):
        return value
    try:
        return (_read(Path(os.environ[_FILE])).get(name) or "").rstrip("\r\n") or value
    except EnvFileError:
        return value


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


def remove_line_ends() -> None:
    """Remove the line ends that values from secret files have, in this process and for its children."""
    for name, value in os.environ.items():
        if name.upper().startswith(_OWN) and value.endswith(("\n", "\r")):
            os.environ[name] = value.rstrip("\r\n")


def write_private(path: Path, text: str) -> None:
    """Replace a file atomically; only its owner may read it."""
    new = path.with_name(path.name + ".new")
    new.touch(mode=0o600)
    new.chmod(0o600)
    new.write_text(text, encoding="utf-8")
    new.replace(path)
