"""deploy/compose.yaml and `make deploy/.env`: who gets which password, and what can be reached from where."""

from __future__ import annotations

import re
import shutil
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
from dotenv import dotenv_values

from qupersync_assets.settings.ui import UiSettings
from qupersync_assets_tests.support.containers import PASSWORDS, PROJECT, compose_services

SERVICES = compose_services({**PASSWORDS, "UI_URL": "https://dagster.example.com"})
OWN = ("migrate", "code", "runs", "webserver", "daemon", "metrics", "worker")


def environment(name: str) -> dict[str, str]:
    """Return the environment of a service, with a file that has all passwords."""
    service = SERVICES[name]
    return {**(PASSWORDS if "env_file" in service else {}), **service["environment"]}


def passwords_of(name: str) -> set[str]:
    service = SERVICES[name]
    text = " ".join([*environment(name).values(), str(service.get("command"))])
    return {password for password, value in PASSWORDS.items() if value in text}


def test_each_service_has_the_passwords_that_it_needs() -> None:
    found = {name: passwords_of(name) for name in SERVICES}
    writer = {"POSTGRES_PASSWORD"}
    assert found == {
        **dict.fromkeys(OWN, writer),
        "postgres": set(PASSWORDS) - {"REDIS_PASSWORD"},
        "migrate": {"POSTGRES_OWNER_PASSWORD"},
        "redis": {"REDIS_PASSWORD"},
        "login": set(),
    }


def test_only_migrations_are_the_owner_of_tables() -> None:
    users = {name: SERVICES[name]["environment"]["POSTGRES_USER"] for name in OWN}
    assert users == {**dict.fromkeys(OWN, "qupersync_writer"), "migrate": "qupersync_owner"}
    assert {SERVICES[name]["environment"]["SYNC_AUTO_MIGRATE"] for name in OWN} == {"false"}
    assert all("migrate" in SERVICES[name]["depends_on"] for name in OWN if name != "migrate")
    mounted = [volume.split(":")[0] for volume in SERVICES["postgres"]["volumes"] if volume.startswith(".")]
    assert mounted == ["./sql/postgres.sql", "./sql/passwords.sql"]
    assert all((PROJECT / "deploy" / path).is_file() for path in mounted)


def test_ports_are_on_the_loopback_interface_and_nothing_is_privileged() -> None:
    for name, service in SERVICES.items():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), name
        assert service["security_opt"] == ["no-new-privileges:true"], name
    assert "--requirepass" not in str(SERVICES["redis"]["command"])  # arguments of processes are not secret


def test_the_login_proxy_reaches_the_protected_webserver_by_its_public_name() -> None:
    login, webserver = SERVICES["login"]["environment"], SERVICES["webserver"]
    assert login["OAUTH2_PROXY_UPSTREAMS"] == f"http://webserver:{webserver['environment']['DAGSTER_WEBSERVER_PORT']}"
    assert login["OAUTH2_PROXY_REDIRECT_URL"] == "https://dagster.example.com/oauth2/callback"
    assert "qupersync_assets.serve.webserver" in webserver["command"]
    given: dict[str, Any] = {n.lower(): v for n, v in webserver["environment"].items() if n.startswith("UI_") and v}
    assert "dagster.example.com" in UiSettings(**given).allowed_hosts()


def test_images_may_be_pinned_by_digest() -> None:
    pinned = {name: f"image-of-{name}@sha256:0" for name in ("POSTGRES_IMAGE", "REDIS_IMAGE", "LOGIN_IMAGE")}
    services = compose_services({**PASSWORDS, **pinned})
    assert {service["image"] for service in services.values()} == {"qupersync", *pinned.values()}
    assert re.findall(r"^FROM (\S+)", (PROJECT / "deploy" / "Dockerfile").read_text("utf-8"), re.MULTILINE) == [
        "${PYTHON_IMAGE}",
        "${PYTHON_IMAGE}",
    ]


@pytest.mark.parametrize("target", [".env", "deploy/.env"])
def test_files_with_passwords_are_readable_by_their_user_only(tmp_path: Path, target: str) -> None:
    (tmp_path / "deploy").mkdir()
    for name in ("Makefile", ".env.example"):
        shutil.copy(PROJECT / name, tmp_path)
    done = subprocess.run(["make", target], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    file = tmp_path / target
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    found = dotenv_values(file)
    if target == "deploy/.env":
        made = [found[name] or "" for name in PASSWORDS]
        assert len(set(made)) == 4 and all(re.fullmatch("[0-9a-f]{48}", password) for password in made)
        assert found["CELERY_BROKER_URL"] == f"redis://:{found['REDIS_PASSWORD']}@redis:6379/0"
        assert not any(password in done.stdout + done.stderr for password in made)
