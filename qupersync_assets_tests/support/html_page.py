"""Reads a health page: its text, its elements, and the numbers below each plot."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser

VOID = {"meta", "link", "br", "img", "input"}


@dataclass
class Element:
    """An element with its attributes, its own text, and its children."""

    tag: str
    attributes: dict[str, str] = field(default_factory=dict)
    text: str = ""
    children: list[Element] = field(default_factory=list)

    def all(self, tag: str = "", **attributes: str) -> list[Element]:
        """Return the elements below with that tag and those attributes, in their order."""
        found = []
        for child in self.children:
            if tag in ("", child.tag) and attributes.items() <= child.attributes.items():
                found.append(child)
            found += child.all(tag, **attributes)
        return found

    def shown(self) -> str:
        """Return all text of the element."""
        return self.text + "".join(child.shown() for child in self.children)

    def table(self, number: int = 0) -> list[dict[str, str]]:
        """Return the rows of a table below, by heading."""
        head, *rows = self.all("table")[number].all("tr")
        names = [cell.shown() for cell in head.all("th")]
        return [dict(zip(names, (cell.shown() for cell in row.all("td")), strict=True)) for row in rows]


class _Parser(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.path = [Element("")]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, {name: value or "" for name, value in attrs})
        self.path[-1].children.append(element)
        if tag not in VOID:
            self.path.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.path[-1].children.append(Element(tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.path[-1].tag == tag, f"</{tag}> ends <{self.path[-1].tag}>"
        self.path.pop()

    def handle_data(self, data: str) -> None:
        self.path[-1].text += data


def parse(page: str) -> Element:
    """Return the root of a page, of which each element is closed."""
    parser = _Parser()
    parser.feed(page)
    parser.close()
    assert len(parser.path) == 1, parser.path[-1].tag
    return parser.path[0]
