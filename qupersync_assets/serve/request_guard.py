"""Lets only pages of the Dagster UI use it: other web pages in the same browser can send requests too.

Dagster executes mutations by GET, accepts any header Host and lets itself be shown in frames. The rules:
https://cheatsheetseries.owasp.org/cheatsheets/Cross-Site_Request_Forgery_Prevention_Cheat_Sheet.html, and for the
headers that browsers send https://www.w3.org/TR/fetch-metadata/.
"""

from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from qupersync_assets.settings.ui import UiSettings

# A page of another site can send other types without asking the server first.
_JSON = ("application/json", "application/graphql")
# Of all responses. No page shows the UI in a frame, where it would take clicks meant for the page around it.
HEADERS = {
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_FRAMES = "frame-ancestors 'none'"


def guard(app: ASGIApp, ui: UiSettings) -> ASGIApp:
    """Return the application behind the checks of host and origin."""
    origins = [ui.ui_url] if ui.ui_url else []
    checked = _SameOrigin(
        app, {urlsplit(url).netloc.lower() for url in origins}, (ui.ui_allowed_hosts or "").split(",")
    )
    return _SecurityHeaders(TrustedHostMiddleware(checked, allowed_hosts=ui.allowed_hosts(), www_redirect=False))


class _SecurityHeaders:
    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"].endswith("http.response.start"):
                headers = MutableHeaders(scope=message)
                headers.update(HEADERS)
                headers.append("Content-Security-Policy", _FRAMES)  # a second policy applies besides the first
            await send(message)

        await self._app(scope, receive, send_with_headers)


class _SameOrigin:
    """Refuses requests of pages of other origins, and those that such pages can send unasked.

    Args:
        app: the application.
        origins: host and port of origins other than that of the request itself, as a proxy may hide it.
        hosts: the same without port.
    """

    def __init__(self, app: ASGIApp, origins: Collection[str], hosts: Collection[str]) -> None:
        self._app = app
        self._origins = origins
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = self._refusal(scope) if scope["type"] in ("http", "websocket") else None
        if refusal:
            status, text = refusal
            await PlainTextResponse(text, status)(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        """Return the status and the text of the response that refuses a request, or None."""
        headers = Headers(scope=scope)
        is_read = scope["type"] == "http" and scope["method"] in ("GET", "HEAD")
        if not (self._is_opened(headers) if is_read else self._is_own(headers)):
            return 403, "The UI accepts no requests of pages of other origins. Behind a proxy, set UI_URL."
        if is_read and scope["path"].rstrip("/").endswith("/graphql") and "text/html" not in headers.get("accept", ""):
            return 405, "GraphQL is accepted by POST only."
        media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
        if scope["type"] == "http" and not is_read and media_type not in _JSON:
            return 415, f"The Content-Type must be {_JSON[0]}."
        return None

    def _is_own(self, headers: Headers) -> bool:
        """Return whether a page of the UI, or a program that is no browser, sent the request."""
        origin = headers.get("origin")
        if origin is not None:
            address = urlsplit(origin)
            known = {headers.get("host", "").lower(), *self._origins}
            if address.netloc.lower() not in known and (address.hostname or "-") not in self._hosts:
                return False
        return headers.get("sec-fetch-site", "none") in ("same-origin", "none")

    def _is_opened(self, headers: Headers) -> bool:
        """Return whether the page of a GET is its own or is opened as a page, also by a link on another page."""
        is_page = headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"
        return is_page or headers.get("sec-fetch-site", "none") in ("same-origin", "none")
