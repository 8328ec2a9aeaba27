"""What is documented about Redshift's system views: columns, where they exist, who may see what of them.

https://docs.aws.amazon.com/redshift/latest/dg/cm_chap_system-tables.html and docs/reference/redshift.md.
"""

import json
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Literal, NotRequired, TypedDict, cast


class ViewFacts(TypedDict):
    """A view: the name and type of each column, in its order, where it exists, and the nodes that it runs on."""

    columns: list[tuple[str, str]]
    provisioned: bool
    serverless: bool
    node: Literal["leader", "compute", "both"]
    # `all` is for all users, `superuser` needs a grant, `own` shows an ordinary user only the rows of its own work.
    visibility: Literal["all", "superuser", "own"]
    # Name of its page in the documentation, if it does not follow from the name of the view.
    page: NotRequired[str]


@cache
def documented_views() -> dict[str, ViewFacts]:
    """Every documented view that QuperSync knows, by name."""
    return cast(dict[str, ViewFacts], json.loads(Path(__file__).with_name("redshift_views.json").read_text("utf-8")))


# On a provisioned cluster all users may read it; Serverless and Multi-AZ refuse it to all users.
READABLE_IF_PROVISIONED = "stl_scan"


def needs_provisioned(view: str) -> bool:
    """Whether only provisioned clusters have the view; others withhold it, whatever the grants."""
    facts = documented_views().get(view)
    return facts is not None and not facts["serverless"]


def needs_serverless(view: str) -> bool:
    """Whether only Serverless has the view."""
    facts = documented_views().get(view)
    return facts is not None and not facts["provisioned"]


def shows_own_rows(views: Iterable[str]) -> list[str]:
    """Those of the views that show an ordinary user only the rows of its own work."""
    facts = documented_views()
    return [view for view in views if view in facts and facts[view]["visibility"] == "own"]


# Not documented: clusters that have it show connections in it, with columns of the connection log.
UNDOCUMENTED = {"svl_user_activity": "sys_connection_log"}


def column_types(view: str) -> dict[str, str]:
    """Documented types by column name, both in lower case; empty for a view that is not documented."""
    facts = documented_views().get(UNDOCUMENTED.get(view, view))
    return {name.lower(): type_name.lower() for name, type_name in facts["columns"]} if facts else {}


def documentation_url(view: str) -> str:
    """The page of AWS's documentation about a view, or about its kind if it has none of its own."""
    facts = documented_views().get(view)
    if facts is not None and not view.startswith("pg_"):
        page = facts.get("page") or (view.upper() if view.startswith("sys_") else f"r_{view.upper()}")
    else:
        page = "c_intro_catalog_views" if view.startswith("pg_") else "cm_chap_system-tables"
    return f"https://docs.aws.amazon.com/redshift/latest/dg/{page}.html"
