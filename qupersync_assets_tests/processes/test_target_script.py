""".ci/target, which the workflow runs with each supported PostgreSQL, here with that of the sandbox."""

from __future__ import annotations

import os
import subprocess
from contextlib import closing

import psycopg2
import pytest

from qupersync_assets.sandbox import Sandbox
from qupersync_assets_tests.conftest import PROJECT


@pytest.mark.long
def test_a_target_is_used_completely(sandbox: Sandbox) -> None:
    with closing(psycopg2.connect(sandbox.server.dsn("postgres"))) as connection:
        connection.autocommit = True
        connection.cursor().execute("CREATE DATABASE other_target")
    login = {"USER": sandbox.server.user, "PASSWORD": sandbox.server.password, "DATABASE": "other_target"}
    login |= {"HOST": sandbox.server.host, "PORT": str(sandbox.server.port)}
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("REDSHIFT_", "CLUSTER"))}
    target = {f"POSTGRES_{name}": value for name, value in login.items()}
    done = subprocess.run(
        [PROJECT / ".ci" / "target"], env=kept | target, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "No problems found." in done.stdout and "queries for readers" in done.stdout.splitlines()[-1]
