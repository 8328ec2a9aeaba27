"""`qupersync mcp` over real stdin and stdout, with the client of the official SDK: it reads, and changes nothing."""

from __future__ import annotations

import os
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client, StdioServerParameters, stdio_client

from qupersync_assets.postgres.resource import PostgresResource
from qupersync_assets_tests.support.health import Clusters
from qupersync_assets_tests.support.integration import Command, Query

TOOLS = ["health_findings", "list_tables", "list_columns", "query"]
# Statements that an assistant may try, and words of the answer.
REFUSED = {
    "DELETE FROM quper.health_findings": "cannot open DELETE query as cursor",
    "SELECT 1; SELECT 2": "cannot open multi-query plan as cursor",
    "SELECT 1; COMMIT; SELECT pg_sleep(60)": "cannot open multi-query plan as cursor",
    "COMMIT": "cannot open COMMIT query as cursor",
    "WITH removed AS (DELETE FROM quper.health_findings RETURNING *) SELECT * FROM removed": "in a read-only transaction",
    "SELECT set_config('transaction_read_only', 'off', true)": "must be set before any query",
    "SELECT pg_sleep(60)": "took longer than 2 s",
    "SELECT * FROM other.secret": "permission denied for schema other",
    "SELECT '; END $$; --' FROM nowhere": "nowhere",
}


@pytest.fixture
def assistant(postgres: PostgresResource, target: Query, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The variables are those of a login that may read quper; another table is beside it. Some findings are open."""
    clusters = Clusters(postgres, target)
    for number in range(5):
        clusters.table(number, stats_off_pct=30 + number)
    clusters.synced()
    clusters.evaluate()
    target("CREATE ROLE quper_readers; CREATE ROLE assistant LOGIN PASSWORD 'of-the-assistant' IN ROLE quper_readers")
    target("GRANT CONNECT ON DATABASE quper TO quper_readers")
    target("GRANT USAGE ON SCHEMA quper TO quper_readers; GRANT SELECT ON ALL TABLES IN SCHEMA quper TO quper_readers")
    target("CREATE SCHEMA other; CREATE TABLE other.secret (a int)")
    monkeypatch.setenv("POSTGRES_STATEMENT_TIMEOUT", "2")
    monkeypatch.setenv("POSTGRES_USER", "assistant")
    monkeypatch.setenv("POSTGRES_PASSWORD", "of-the-assistant")
    yield
    target("DROP SCHEMA other CASCADE; DROP OWNED BY quper_readers; DROP ROLE assistant, quper_readers")


class Assistant:
    """A client, and the answers of its calls."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def call(self, tool: str, **arguments: Any) -> Any:
        done = await self._client.call_tool(tool, arguments)
        assert not done.is_error, done.content
        return done.structured_content

    async def refused(self, tool: str, **arguments: Any) -> str:
        done = await self._client.call_tool(tool, arguments)
        assert done.is_error, done.content
        return " ".join(part.text for part in done.content if part.type == "text")


def serve(folder: Path, use: Callable[[Client], Awaitable[None]]) -> None:
    """Run the command in a folder, and `use` a client of it."""
    arguments = ["-m", "qupersync_assets.cli", "mcp"]
    command = StdioServerParameters(command=sys.executable, args=arguments, env=dict(os.environ), cwd=folder)

    async def main() -> None:
        async with Client(stdio_client(command)) as client:
            await use(client)

    anyio.run(main)


def test_an_assistant_reads_findings_tables_and_rows(assistant: None, tmp_path: Path) -> None:
    async def use(client: Client) -> None:
        listed = (await client.list_tools()).tools
        assert [tool.name for tool in listed] == TOOLS
        assert all(tool.annotations and tool.annotations.read_only_hint and tool.description for tool in listed)
        asks = Assistant(client)
        found = await asks.call("health_findings", severity="warning", limit=3)
        assert len(found["findings"]) == 3 and found["evaluated_at"]
        assert found["findings"][0]["remedy"].startswith("ANALYZE sales.table_")
        tables = {row["name"]: row["comment"] for row in (await asks.call("list_tables"))["result"]}
        assert tables["health_open"].startswith("Open findings") and "secret" not in tables
        columns = {row["name"]: row for row in (await asks.call("list_columns", table="quper.table_stats"))["result"]}
        assert columns["size_mb"]["type"] == "bigint" and "MB" in columns["size_mb"]["comment"]
        rows = await asks.call(
            "query", sql="SELECT table_id, stats_off_pct, synced_at FROM quper.table_stats ORDER BY 1;"
        )
        assert rows["columns"] == ["table_id", "stats_off_pct", "synced_at"] and not rows["more"]
        assert [row[:2] for row in rows["rows"]] == [[n, 30 + n] for n in range(5)]
        few = await asks.call("query", sql="SELECT generate_series(1, 9) AS n -- % and '", limit=3)
        assert few == {"columns": ["n"], "rows": [[1], [2], [3]], "more": True}
        kinds = await asks.call("query", sql="SELECT interval '1 day', '{a,b}'::text[], NULL, 'x'::bytea, 1.50")
        assert kinds["rows"] == [["1 day, 0:00:00", ["a", "b"], None, kinds["rows"][0][3], 1.5]]

    serve(tmp_path, use)


def test_it_changes_nothing_and_ends_what_takes_long(assistant: None, tmp_path: Path, target: Query) -> None:
    async def use(client: Client) -> None:
        asks = Assistant(client)
        for sql, words in REFUSED.items():
            assert words in await asks.refused("query", sql=sql), sql
        # Neither a lock nor a setting stays.
        await asks.call("query", sql="SELECT pg_advisory_lock(7), set_config('search_path', 'other', false)")
        assert target("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 7") == [(0,)]
        assert "other" not in str(await asks.call("query", sql="SHOW search_path"))
        assert "1000" in await asks.refused("query", sql="SELECT 1", limit=1001)
        assert "no table quper.nothing" in await asks.refused("list_columns", table="nothing")

    before = target("SELECT count(*) FROM quper.health_findings")
    serve(tmp_path, use)
    assert target("SELECT count(*) FROM quper.health_findings") == before != [(0,)]


def test_a_login_that_may_change_tables_is_refused(assistant: None, target: Query, qupersync: Command) -> None:
    target("CREATE ROLE writer NOINHERIT; GRANT writer TO assistant; GRANT DELETE ON quper.applications TO writer")
    try:
        refused = qupersync("mcp")
        assert refused.code == 1 and "assistant may change tables" in refused.err and not refused.out
    finally:
        target("DROP OWNED BY writer; DROP ROLE writer")


def test_without_the_extra_it_says_what_to_install(qupersync: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "qupersync_assets.mcp_server", None)
    done = qupersync("mcp")
    assert done.code == 1 and "pip install 'qupersync[mcp]'" in done.err
