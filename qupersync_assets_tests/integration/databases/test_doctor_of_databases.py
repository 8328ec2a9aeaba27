"""The doctor checks each database, and its statements fix what it finds."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from qupersync_assets.sandbox import Sandbox
from qupersync_assets_tests.integration.databases.conftest import DATABASES, QUOTED, Fill, run_in
from qupersync_assets_tests.support.integration import Command


def test_the_doctor_names_each_database_and_its_statement_fixes_it(
    databases: Sandbox,
    qupersync: Command,
    fill: Fill,
    monkeypatch: pytest.MonkeyPatch,
    without_connect: Callable[[str], None],
) -> None:
    monkeypatch.setenv("REDSHIFT_DATABASES", ",".join([*DATABASES, "nowhere"]))
    without_connect(QUOTED)
    run_in(databases, "sales", "REVOKE SELECT ON svv_table_info FROM qupersync_reader")
    report = qupersync("doctor", "--json")
    problems = {f["what"]: f["remedy"] for f in report.json["findings"] if not f["ok"]}
    assert report.code == 1 and set(problems) == {"database sales", f"database {QUOTED}", "database nowhere"}
    assert "REDSHIFT_DATABASES" in problems["database nowhere"]
    monkeypatch.setenv("REDSHIFT_DATABASES", ",".join(DATABASES))
    for name in ("sales", QUOTED):
        [statement] = re.findall(r"GRANT .*;", problems[f"database {name}"])
        run_in(databases, name, statement)
    report = qupersync("doctor", "--json")
    found = {f["what"]: f["detail"] for f in report.json["findings"] if f["what"].startswith("database ")}
    assert report.code == 0
    assert found == dict.fromkeys(
        ["database sales", f"database {QUOTED}"], "readable: svv_columns, pg_attribute, svv_table_info"
    )
