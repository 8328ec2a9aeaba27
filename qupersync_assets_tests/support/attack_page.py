"""A web page on another port that tries to launch runs, as any page that the browser shows can."""

from __future__ import annotations

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlencode

from qupersync_assets_tests.support.attacks import launch_body
from qupersync_assets_tests.support.background_server import InBackground

PAGE = """<!doctype html><title>elsewhere</title><p>started</p>
<img src="%(url)s"><iframe name="frame" src="%(ui)s/"></iframe><link rel="stylesheet" href="%(url)s"><script src="%(url)s"></script>
<form id="plain" method="post" enctype="text/plain" target="frame" action="%(ui)s/graphql"><input name='%(half)s'></form>
<form id="form" method="post" target="frame" action="%(url)s"></form>
<script>
  const ui = "%(ui)s", url = "%(url)s", body = %(body)s, results = [];
  const post = (headers, mode) => fetch(ui + "/graphql", {method: "POST", mode, headers, body, credentials: "include"});
  const socket = () => new Promise((resolve, reject) => {
    const opened = new WebSocket(ui.replace("http", "ws") + "/graphql", "graphql-ws");
    opened.onopen = resolve; opened.onerror = reject;
  });
  const attempts = [() => fetch(url), () => fetch(url, {mode: "no-cors"}), () => post({"Content-Type": "application/json"}, "cors"),
    () => post({"Content-Type": "text/plain"}, "no-cors"), () => fetch(url, {method: "POST", mode: "no-cors"}), socket,
    () => navigator.sendBeacon(ui + "/graphql", body) ? Promise.reject() : null];
  (async () => {
    for (const attempt of attempts) await attempt().then(r => results.push(r.type || "opened"), () => results.push("failed"));
    document.getElementById("plain").submit();
    await new Promise(resolve => setTimeout(resolve, 1000));
    document.getElementById("form").submit();
    await new Promise(resolve => setTimeout(resolve, 1000));
    document.querySelector("p").textContent = "done: " + results.join(" ");
  })();
</script>"""


class _Handler(BaseHTTPRequestHandler):
    server: AttackPage

    def do_GET(self) -> None:
        text = self.server.page.encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: Any) -> None:
        pass


class AttackPage(InBackground, ThreadingHTTPServer):
    """Serves a page that launches `job` of the UI on a port of this machine, with the tag `from` = `elsewhere`."""

    def __init__(self, ui_port: int, job: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        body = launch_body(job, {}, {"from": "elsewhere"})
        request = json.loads(body)
        query = urlencode({"query": request["query"], "variables": json.dumps(request["variables"])})
        ui = f"http://127.0.0.1:{ui_port}"
        half = body[:-1] + ', "x": "'  # a form adds = and a line end, which stay in the text
        self.page = PAGE % {"ui": ui, "url": f"{ui}/graphql?{query}", "body": json.dumps(body), "half": half}

    @property
    def url(self) -> str:
        return f"http://localhost:{self.server_address[1]}/"
