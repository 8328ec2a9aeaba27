"""`qupersync mcp`: serve the tables and findings to an AI assistant, read-only."""

from qupersync_assets.cli.console import CommandError, exit_on_errors, note


def mcp() -> None:
    """Serve tables and findings to an AI assistant, read-only, as an MCP server over stdin and stdout.

    The tools list tables and columns, run one SELECT, and return the findings. A statement has 10 seconds, an answer
    1000 rows at most. POSTGRES_USER must be a login that may not change tables: docs/integrations.md. Needs the
    extra `mcp`.
    """
    with exit_on_errors(as_json=False):
        from qupersync_assets.postgres.resource import postgres_resource
        from qupersync_assets.settings import Settings

        try:
            from qupersync_assets.mcp_server import build_server
        except ImportError:
            raise CommandError("`qupersync mcp` needs the extra `mcp`: pip install 'qupersync[mcp]'") from None
        server = build_server(postgres_resource(Settings.load(logins=False)))
        note("Serving an MCP client over stdin and stdout, until it closes them.")
        try:
            server.run("stdio")
        except KeyboardInterrupt:
            return
