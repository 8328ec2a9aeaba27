"""The HTTP server of `qupersync metrics`: /metrics for Prometheus, /health for load balancers and people."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar
from wsgiref.simple_server import WSGIRequestHandler, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.exposition import ThreadingWSGIServer
from pydantic import BaseModel

from qupersync_assets.defs.resources import postgres_resource
from qupersync_assets.monitoring.collector import SyncCollector
from qupersync_assets.monitoring.health import Health
from qupersync_assets.redshift.resource import RedshiftResource
from qupersync_assets.settings import Settings
from qupersync_assets.sync_jobs import all_specs

# Prometheus waits 10 seconds for an answer, unless told otherwise.
STATEMENT_SECONDS = 8

S = TypeVar("S", bound=BaseModel)
_StartResponse = Callable[[str, list[tuple[str, str]]], Any]
_Environ = dict[str, Any]


class _Silent(WSGIRequestHandler):
    timeout = 30  # of a client that sends nothing

    def log_message(self, format: str, *args: Any) -> None:
        """A line a scrape is of no use to anybody."""


class _Server6(ThreadingWSGIServer):
    address_family = socket.AF_INET6


@contextmanager
def metrics_server(settings: Settings, host: str, port: int) -> Iterator[ThreadingWSGIServer]:
    """A server that listens; `serve_forever` answers, in a thread for each request.

    Raises:
        OSError: it cannot listen there.
    """
    postgres = postgres_resource(_patient(settings, "postgres_statement_timeout"))
    redshifts = {
        name: RedshiftResource(_patient(source, "statement_timeout"))
        for name, source in settings.by_cluster().items()
    }
    registry = CollectorRegistry()
    registry.register(SyncCollector(postgres, list(redshifts), all_specs()))
    health = Health(settings, postgres, redshifts)
    server_class = _Server6 if ":" in host else ThreadingWSGIServer
    with make_server(host, port, _app(registry, health), server_class, _Silent) as server:
        try:
            yield server
        finally:
            health.close()


def _patient(settings: S, field: str) -> S:
    """The settings with a statement timeout that is no longer than one waits for our answer."""
    return settings.model_copy(update={field: min(getattr(settings, field), STATEMENT_SECONDS)})


def _app(
    registry: CollectorRegistry, health: Health
) -> Callable[[_Environ, _StartResponse], Iterable[bytes]]:
    metrics = make_wsgi_app(registry)

    def app(environ: _Environ, start_response: _StartResponse) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if path == "/metrics":
            return metrics(environ, start_response)  # type: ignore[no-any-return]
        if path == "/health":
            ok, found = health.look()
            status = "200 OK" if ok else "503 Service Unavailable"
            return _answer(start_response, status, "application/json", json.dumps(found, indent=2))
        text = "Here are /metrics for Prometheus, and /health.\n"
        return _answer(start_response, "200 OK" if path == "/" else "404 Not Found", "text/plain", text)

    return app


def _answer(start_response: _StartResponse, status: str, kind: str, text: str) -> Iterable[bytes]:
    start_response(status, [("Content-Type", f"{kind}; charset=utf-8"), ("Cache-Control", "no-store")])
    return [text.encode()]
