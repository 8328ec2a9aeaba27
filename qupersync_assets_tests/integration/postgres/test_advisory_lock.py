"""Two runs of one job: one loads, the other leaves it alone and says who does."""

from __future__ import annotations

from contextlib import closing

import pytest
import sqlalchemy as sa

from qupersync_assets.postgres.advisory_lock import JobConnection, JobLocked
from qupersync_assets_tests.support.integration import Materialize, Query

ROWS = "INSERT INTO stv_node_storage_capacity SELECT n, n, 9000 FROM generate_series(1, 10) n"
LOCKS = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"


def test_a_job_that_is_being_loaded_is_skipped(
    engine: sa.Engine, materialize: Materialize, source: Query, target: Query
) -> None:
    source(ROWS)
    with closing(JobConnection(engine, "sandbox", "node_details_sync")) as other:
        with other.begin() as connection:
            pid = connection.scalar(sa.text("SELECT pg_backend_pid()"))
        result = materialize("node_details", "applications")
        assert result.success
    assert target("SELECT count(*) FROM quper.node_details") == [(0,)]
    logs: dict[str, str] = dict(target("SELECT sync_job_id, status FROM quper.sync_logs"))
    assert logs == {"node_details_sync": "skipped", "application_sync": "success"}
    ((error,),) = target("SELECT error FROM quper.sync_logs WHERE status = 'skipped'")
    assert "node_details_sync of cluster sandbox" in error and f"process {pid}" in error

    (check,) = [
        e
        for e in result.get_asset_check_evaluations()
        if e.check_name == "source_schema" and e.asset_key.path[-1] == "node_details"
    ]
    assert check.passed and str(check.description).startswith("Nothing was read: node_details_sync")
    assert check.metadata["source"].value == "skipped"

    assert materialize("node_details").success
    assert target("SELECT count(*) FROM quper.node_details") == [(10,)]
    assert target(LOCKS) == [(0,)]


def test_the_run_that_holds_a_job_is_named(engine: sa.Engine, target: Query) -> None:
    target(
        "INSERT INTO quper.sync_logs (cluster, sync_job_id, run_id, status, started_at) "
        "VALUES ('c', 'j', 'run-1', 'running', now()), ('d', 'j', 'run-2', 'running', now())"
    )
    with closing(JobConnection(engine, "c", "j")) as first, closing(JobConnection(engine, "c", "j")) as second:
        with first.begin():
            pass
        with pytest.raises(JobLocked, match="run-1"), second.begin():
            pass
        first.close()
        with second.begin():
            pass
    for cluster, job in (("d", "j"), ("c", "k")):
        with (
            closing(JobConnection(engine, "c", "j")) as mine,
            closing(JobConnection(engine, cluster, job)) as another,
            mine.begin(),
            another.begin(),
        ):
            pass


def test_a_killed_holder_releases_its_job(engine: sa.Engine, target: Query) -> None:
    with closing(JobConnection(engine, "c", "j")) as first, closing(JobConnection(engine, "c", "j")) as second:
        with first.begin() as connection:
            pid = connection.scalar(sa.text("SELECT pg_backend_pid()"))
        assert target("SELECT pg_terminate_backend(%s, 5000)", [pid]) == [(True,)]
        with second.begin():
            pass
        assert second.opened == 1
        with pytest.raises(sa.exc.OperationalError), first.begin() as connection:
            connection.execute(sa.text("SELECT 1"))
        with pytest.raises(JobLocked), first.begin():
            pass
