"""Servers of the standard library that answer in a thread of their own, while they are entered."""

from __future__ import annotations

import socketserver
import threading
from typing import Self


class InBackground(socketserver.BaseServer):
    """To be inherited from before the server itself."""

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()
