"""deploy/systemd: the commands exist, and systemd accepts the units where it is installed."""

from __future__ import annotations

import configparser
import getpass
import re
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path

import pytest

from qupersync_assets.serve.logins import REFUSED

PROJECT = Path(__file__).parents[2]
UNITS = sorted((PROJECT / "deploy" / "systemd").glob("*.service"))
EACH = pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.name)


def parsed(unit: Path) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None, delimiters="=")
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read_string(unit.read_text("utf-8"))
    return parser


@EACH
def test_commands_exist_and_write_to_one_folder(unit: Path) -> None:
    service = parsed(unit)["Service"]
    program, *arguments = service["ExecStart"].replace("/opt/qupersync", str(PROJECT)).split()
    assert Path(program).exists()
    assert arguments[0] != "-m" or find_spec(arguments[1])
    assert service["ReadWritePaths"] == f"{service['WorkingDirectory']}/.qupersync"
    assert service["ProtectSystem"] == "strict" and service["NoNewPrivileges"] == "true"


def test_a_refused_login_is_not_repeated() -> None:
    service = parsed(PROJECT / "deploy" / "systemd" / "qupersync.service")["Service"]
    assert service["Restart"] == "on-failure" and service["RestartPreventExitStatus"] == str(REFUSED)


@EACH
def test_systemd_accepts_the_unit(unit: Path, tmp_path: Path) -> None:
    if not (program := shutil.which("systemd-analyze")):
        pytest.skip("systemd is not installed")
    text = unit.read_text("utf-8").replace("/opt/qupersync", str(PROJECT))
    (tmp_path / unit.name).write_text(re.sub("User=.*", f"User={getpass.getuser()}", text))
    done = subprocess.run([program, "verify", str(tmp_path / unit.name)], capture_output=True, text=True)
    # Other units of this machine may have faults of their own.
    faults = [line for line in done.stderr.splitlines() if unit.name in line]
    assert not faults
