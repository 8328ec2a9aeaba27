"""The settings of the Dagster UI: where it listens, by which names browsers reach it, and what they may do."""

from __future__ import annotations

import re
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from qupersync_assets.settings.errors import SettingsError, check_names, explain
from qupersync_assets.settings.redshift_login import Port

LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
_HOST = re.compile(r"(\*\.)?[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*|\[[0-9A-Fa-f:.]+\]")


def _check_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or re.search(r"\s", url):
        raise ValueError("allowed is a URL such as https://dagster.example.com")
    return url


def _check_hosts(text: str) -> str:
    names = check_names(text)
    for name in names.split(","):
        if not _HOST.fullmatch(name):
            raise ValueError(f"allowed are host names without port, *.example.com or [IPv6], unlike {name!r}")
    return names


class UiSettings(BaseModel, use_attribute_docstrings=True):
    """How the Dagster UI is served."""

    ui_host: str = Field("127.0.0.1", min_length=1, description="Address on which the Dagster UI listens.")
    ui_port: Port = Field(3000, description="Port of the Dagster UI.")
    ui_allowed_hosts: Annotated[str, AfterValidator(_check_hosts)] | None = None
    """Further host names by which browsers may reach the UI, separated by commas; *.example.com is allowed."""
    ui_read_only: bool = False
    """Whether the UI is read-only: users cannot start runs or change the schedule."""
    ui_url: Annotated[str, AfterValidator(_check_url)] | None = None
    """URL of the Dagster UI, to which alerts link."""

    def allowed_hosts(self) -> list[str]:
        """Return the names that the header Host of a request may have, without port; IPv6 in brackets."""
        named = [self.ui_host, urlsplit(self.ui_url).hostname if self.ui_url else None]
        bracketed = [f"[{name}]" if ":" in name else name for name in named if name]
        further = self.ui_allowed_hosts.split(",") if self.ui_allowed_hosts else []
        return list(dict.fromkeys(name.lower() for name in (*LOOPBACK, *bracketed, *further)))


class UiProcessSettings(BaseSettings, UiSettings):
    """The same for the process of the webserver, which needs no login of Redshift."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_ignore_empty=True, hide_input_in_errors=True)

    @classmethod
    def load(cls) -> UiProcessSettings:
        """Load them from the environment; SettingsError names all problems."""
        try:
            return cls()
        except ValidationError as error:
            problems = [(str(problem["loc"][0]), problem) for problem in error.errors()]
            lines = [explain(problem, name.upper(), cls.model_fields[name]) for name, problem in problems]
            raise SettingsError(lines) from None
