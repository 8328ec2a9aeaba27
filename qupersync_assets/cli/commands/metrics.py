"""`qupersync metrics`: serve Prometheus metrics and health."""

import sys
from typing import Annotated

import typer

from qupersync_assets.cli.console import CommandError, Json, exit_on_errors, out, print_json, print_line


def metrics(
    host: Annotated[str | None, typer.Option(metavar="ADDRESS", help="Address, instead of METRICS_HOST.")] = None,
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, metavar="PORT", help="Port, instead of METRICS_PORT; 0: any free port."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Serve /metrics for Prometheus, from quper.sync_logs, and /health, until Ctrl-C.

    /health answers 200 if PostgreSQL answers, Dagster's daemon and the schedule run, and each job has
    succeeded within its last intervals; else 503. With ALERT_URLS it also sends alerts for these problems.
    The daemon is that of DAGSTER_HOME, or of `make up` in this folder.
    """
    with exit_on_errors(as_json):
        from qupersync_assets.alerts.watchdog import start_watchdog
        from qupersync_assets.core.log_format import configure_logs
        from qupersync_assets.core.signals import stop_on_signals
        from qupersync_assets.monitoring.server import metrics_server
        from qupersync_assets.settings import Settings

        settings = Settings.load()
        host = host or settings.metrics_host
        port = settings.metrics_port if port is None else port
        stop_on_signals()
        configure_logs(settings.log_format)
        start_watchdog(settings)
        try:
            with metrics_server(settings, host, port) as server:
                base = f"http://{f'[{host}]' if ':' in host else host}:{server.server_port}"
                if as_json:
                    print_json({"metrics": f"{base}/metrics", "health": f"{base}/health"})
                else:
                    print_line(out(), f"Metrics: {base}/metrics, health: {base}/health. Press Ctrl-C to stop.")
                sys.stdout.flush()
                server.serve_forever()
        except OSError as error:
            raise CommandError(
                f"Cannot listen on {host}, port {port}: {error.strerror or error}. Choose others with --host "
                "and --port, or with METRICS_HOST and METRICS_PORT."
            ) from error
        except KeyboardInterrupt:
            return
