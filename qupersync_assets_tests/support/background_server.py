"""Runs servers of the standard library in a thread, for the duration of a context."""

from __future__ import annotations

import socketserver
import threading
from typing import Self


class InBackground(socketserver.BaseServer):
    """Mixin for a server class; it must be the first base class."""

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()
