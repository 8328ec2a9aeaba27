"""Which requests reach the UI: those of its own pages and of programs, not those of other web pages."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from starlette.datastructures import Headers
from starlette.types import Message

from qupersync_assets.serve.request_guard import guard
from qupersync_assets.settings import SettingsError
from qupersync_assets.settings.ui import UiProcessSettings
from qupersync_assets_tests.support.attacks import JSON, foreign_requests, launch_body

PORT = 3000
OWN = f"http://127.0.0.1:{PORT}"
PAGE = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
UI_FETCH = {"Origin": OWN, "Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors", "Sec-Fetch-Dest": "empty"}


def respond(
    variables: dict[str, str], method: str, path: str = "/", headers: dict[str, str] | None = None, kind: str = "http"
) -> tuple[int, Headers]:
    """Send a request to an application behind the guard; return status and headers, 200 if it reached it."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("UI_HOST", "UI_URL", "UI_ALLOWED_HOSTS"):
            patch.delenv(name, raising=False)
        for name, value in variables.items():
            patch.setenv(name, value)
        ui = UiProcessSettings.load()
    given = {"Host": f"127.0.0.1:{PORT}", **(headers or {})}
    parts = urlsplit(path)
    scope: dict[str, Any] = {
        "type": kind,
        "path": unquote(parts.path),
        "query_string": parts.query.encode(),
        "headers": [(name.lower().encode(), value.encode()) for name, value in given.items()],
        "extensions": {"websocket.http.response": {}},
        **({"method": method} if kind == "http" else {}),
    }
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request"}

    async def send(message: Message) -> None:
        sent.append(message)

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        headers = [(b"content-security-policy", b"script-src 'self'")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})

    async def run() -> None:
        await guard(app, ui)(scope, receive, send)

    asyncio.run(run())
    return sent[0]["status"], Headers(raw=sent[0]["headers"])


@pytest.mark.parametrize(
    ("method", "path", "_body", "headers"), list(foreign_requests(PORT, launch_body("qupersync_main", {})))
)
def test_no_page_of_another_origin_sends_a_mutation(
    method: str, path: str, _body: str | None, headers: dict[str, str]
) -> None:
    assert respond({}, method, path, headers)[0] in (400, 403, 405, 415)


@pytest.mark.parametrize(
    ("method", "path", "headers"),
    [
        ("GET", "/", {}),
        ("GET", "/", PAGE),  # a link in an alert
        ("GET", "/assets/quper/table_stats", {"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate"}),
        ("GET", "/favicon.png", {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Dest": "image"}),
        ("GET", "/graphql", {"Accept": "text/html,*/*"}),  # the page GraphiQL
        ("GET", "/server_info", {"Host": f"localhost:{PORT}"}),
        ("GET", "/server_info", {"Host": "[::1]"}),
        ("POST", "/graphql", {**JSON, **UI_FETCH}),
        ("POST", "/graphql", {"Content-Type": "application/json; charset=utf-8"}),  # a program
        ("POST", "/graphql", {"Content-Type": "application/graphql"}),
    ],
)
def test_pages_of_the_ui_and_programs_are_served(method: str, path: str, headers: dict[str, str]) -> None:
    status, answered = respond({}, method, path, headers)
    assert status == 200
    assert answered["X-Frame-Options"] == "DENY" and answered["X-Content-Type-Options"] == "nosniff"
    assert answered.getlist("Content-Security-Policy") == ["script-src 'self'", "frame-ancestors 'none'"]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (UI_FETCH, 200),
        ({}, 200),  # a program
        ({"Origin": "http://elsewhere.example"}, 403),
        ({"Origin": OWN, "Sec-Fetch-Site": "cross-site"}, 403),
        ({"Host": "elsewhere.example", "Origin": "http://elsewhere.example"}, 400),
    ],
)
def test_only_pages_of_the_ui_subscribe(headers: dict[str, str], status: int) -> None:
    assert respond({}, "", "/graphql", headers, kind="websocket")[0] == status


PROXIED = {"UI_URL": "https://dagster.example.com/ui"}


@pytest.mark.parametrize(
    ("variables", "headers", "status"),
    [
        # A proxy that passes the header Host, and one that does not.
        (PROXIED, {"Host": "dagster.example.com", "Origin": "https://dagster.example.com"}, 200),
        (PROXIED, {"Origin": "https://dagster.example.com"}, 200),
        (PROXIED, {"Host": "other.example.com"}, 400),
        (PROXIED, {"Origin": "https://other.example.com"}, 403),
        ({"UI_HOST": "10.1.2.3"}, {"Host": "10.1.2.3:3000", "Origin": "http://10.1.2.3:3000"}, 200),
        ({"UI_HOST": "fd00::1"}, {"Host": "[fd00::1]:3000"}, 200),
        ({"UI_HOST": "0.0.0.0"}, {"Host": "10.1.2.3:3000"}, 400),
        ({"UI_ALLOWED_HOSTS": "tunnel, *.Corp.example"}, {"Host": "a.corp.example:8443"}, 200),
        ({"UI_ALLOWED_HOSTS": "tunnel, *.Corp.example"}, {"Origin": "https://tunnel:8443"}, 200),
        ({"UI_ALLOWED_HOSTS": "tunnel"}, {"Host": "corp.example"}, 400),
    ],
)
def test_further_names_are_those_of_the_settings(
    variables: dict[str, str], headers: dict[str, str], status: int
) -> None:
    assert respond(variables, "POST", "/graphql", {**JSON, **headers})[0] == status


@pytest.mark.parametrize("value", ["*", "https://a.example", "a.example:3000", "a b", "a,,b", "*a.example"])
def test_other_forms_of_names_are_refused(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UI_ALLOWED_HOSTS", value)
    with pytest.raises(SettingsError, match="UI_ALLOWED_HOSTS"):
        UiProcessSettings.load()
