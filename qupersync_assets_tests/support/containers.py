"""Runs the services of deploy/compose.yaml as processes on loopback ports.

They have the commands, the environment and the health checks of their containers.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sysconfig
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml
from dotenv import dotenv_values

PROJECT = Path(__file__).parents[2]
COMPOSE = PROJECT / "deploy" / "compose.yaml"
DOCKERFILE = PROJECT / "deploy" / "Dockerfile"
BIN = sysconfig.get_path("scripts")


# Those that `make deploy/.env` makes.
PASSWORDS = {
    f"{name}_PASSWORD": f"<the password of {name}>"
    for name in ("POSTGRES", "POSTGRES_OWNER", "POSTGRES_ADMIN", "REDIS")
}


def compose_services(variables: dict[str, str]) -> dict[str, Any]:
    """Return the services of the file, with the variables of `deploy/.env` substituted."""

    def replace(match: re.Match[str]) -> str:
        if match["name"] is None:
            return "$"
        value = variables.get(match["name"])
        assert value or match["kind"] != "?", f"{match['name']} {match['other']}"
        return value or match["other"]

    pattern = r"\$(?:\$|\{(?P<name>\w+):(?P<kind>[-?])(?P<other>[^}]*)\})"
    services: dict[str, Any] = yaml.safe_load(re.sub(pattern, replace, COMPOSE.read_text("utf-8")))["services"]
    for service in services.values():  # compose parses before it replaces
        service["environment"] = {name: value or "" for name, value in service["environment"].items()}
    return services


class Image:
    """The files and the environment of the last stage of the Dockerfile."""

    def __init__(self, folder: Path) -> None:
        text = DOCKERFILE.read_text("utf-8").replace("\\\n", " ").split("\nFROM ")[-1]
        (workdir,) = re.findall(r"^WORKDIR (.*)$", text, re.MULTILINE)
        for directory in re.findall(r"install --directory --owner \w+ (\S+)", text):
            (folder / directory).mkdir(parents=True)
        for source, target in re.findall(r"^COPY (?!--)(\S+) (\S+)$", text, re.MULTILINE):
            shutil.copy(PROJECT / source, folder / target)
        (assignments,) = re.findall(r"^ENV (.*)$", text, re.MULTILINE)
        self.environment = dict(pair.split("=", 1) for pair in assignments.split())
        self.environment = {n: v.replace(workdir, str(folder)) for n, v in self.environment.items()}
        self.environment["PATH"] = f"{BIN}:{os.environ['PATH']}"
        if path := os.environ.get("PYTHONPATH"):  # of a checkout that is not installed
            self.environment["PYTHONPATH"] = path
        self.folder = folder


class Service:
    """A service of the compose file, as a process group that can be killed and restarted."""

    def __init__(self, name: str, spec: dict[str, Any], image: Image, env_file: Path, places: dict[str, str]) -> None:
        """Prepare a service.

        Args:
            name: its name in the compose file.
            spec: its definition.
            image: the image of its container.
            env_file: the environment file of the deployment.
            places: addresses of containers, and the loopback addresses that replace them.
        """
        given = dotenv_values(env_file) if "env_file" in spec else {}
        own = {n: places.get(v, v) for n, v in spec["environment"].items()}
        self.environment = {**image.environment, **{n: v for n, v in given.items() if v is not None}, **own}
        self._command: list[str] = spec["command"]
        self._check: list[str] = spec["healthcheck"]["test"]
        self._folder = image.folder
        self._log = image.folder.parent / f"{name}.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("a") as output:
            self.process = subprocess.Popen(
                self._command,
                cwd=self._folder,
                env=self.environment,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def kill(self) -> None:
        """Kill all processes of the service, as a killed container does."""
        if self.process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(20)

    def healthy(self) -> bool:
        """Return the result of its health check; AssertionError if it has ended."""
        assert self.process is not None and self.process.poll() is None, self.output()
        kind, *arguments = self._check
        command = ["sh", "-c", *arguments] if kind == "CMD-SHELL" else arguments
        result = subprocess.run(command, cwd=self._folder, env=self.environment, capture_output=True, timeout=60)
        return result.returncode == 0

    def output(self) -> str:
        return self._log.read_text("utf-8")
