"""A view of the schema quper, for readers."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class View:
    """A view.

    Attributes:
        name: its name in schema quper.
        query: its SELECT. A new column is added at the end, because CREATE OR REPLACE VIEW cannot move one.
        comment: what a row is.
        columns: the comment of each column, in their order.
    """

    name: str
    query: str
    comment: str
    columns: Mapping[str, str]
