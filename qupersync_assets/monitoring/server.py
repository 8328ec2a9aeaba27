"""The HTTP server of `qupersync metrics`: /metrics for Prometheus, /health for load balancers and people."""

import json
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar
from urllib.parse import parse_qsl
from wsgiref.simple_server import WSGIRequestHandler, make_server
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.exposition import ThreadingWSGIServer
from pydantic import BaseModel

from qupersync_assets.monitoring.collector import SyncCollector
from qupersync_assets.monitoring.dagster_state import DagsterReader
from qupersync_assets.monitoring.health import Health
from qupersync_assets.postgres.resource import postgres_resource
from qupersync_assets.redshift.resource import RedshiftResource
from qupersync_assets.settings import Settings
from qupersync_assets.sync.job_choice import jobs_by_cluster

# The default timeout of a scrape is 10 seconds.
STATEMENT_SECONDS = 8
S = TypeVar("S", bound=BaseModel)


class _Silent(WSGIRequestHandler):
    timeout = 30  # of a client that sends nothing

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing: one line per scrape is noise."""


class _Server6(ThreadingWSGIServer):
    address_family = socket.AF_INET6


@contextmanager
def metrics_server(settings: Settings, host: str, port: int) -> Iterator[ThreadingWSGIServer]:
    """Yield a listening server; `serve_forever` answers each request in a thread.

    Raises:
        OSError: the address cannot be used.
    """
    postgres = postgres_resource(_with_short_timeout(settings, "postgres_statement_timeout"))
    redshifts = {
        name: RedshiftResource(_with_short_timeout(source, "statement_timeout"))
        for name, source in settings.by_cluster().items()
    }
    registry = CollectorRegistry()
    jobs = jobs_by_cluster(settings)
    dagster = DagsterReader(settings)
    registry.register(SyncCollector(postgres, jobs, settings.interval, dagster))
    health = Health(settings, postgres, redshifts)
    server_class = _Server6 if ":" in host else ThreadingWSGIServer
    with make_server(host, port, _app(registry, health), server_class, _Silent) as server:
        try:
            yield server
        finally:
            health.close()
            dagster.close()


def _with_short_timeout(settings: S, field: str) -> S:
    """Limit a statement timeout, so that clients get an answer before they give up."""
    return settings.model_copy(update={field: min(getattr(settings, field), STATEMENT_SECONDS)})


def _app(registry: CollectorRegistry, health: Health) -> WSGIApplication:
    metrics = make_wsgi_app(registry)

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ.get("HTTP_SEC_FETCH_SITE", "none") not in ("none", "same-origin"):
            # A web page in a browser of this machine could wake a cluster that is billed.
            return _answer(start_response, "403 Forbidden", "text/plain", "No requests of other web pages.\n")
        path = environ["PATH_INFO"]
        if path == "/metrics":
            return metrics(environ, start_response)  # type: ignore[no-any-return]
        if path == "/health":
            query = dict(parse_qsl(environ.get("QUERY_STRING", "")))
            ok, found = health.check(with_redshift=query.get("redshift") == "1")
            status = "200 OK" if ok else "503 Service Unavailable"
            return _answer(start_response, status, "application/json", json.dumps(found, indent=2))
        text = "Paths: /metrics for Prometheus, /health, /health?redshift=1.\n"
        return _answer(start_response, "200 OK" if path == "/" else "404 Not Found", "text/plain", text)

    return app


def _answer(start_response: StartResponse, status: str, kind: str, text: str) -> Iterable[bytes]:
    start_response(status, [("Content-Type", f"{kind}; charset=utf-8"), ("Cache-Control", "no-store")])
    return [text.encode()]
