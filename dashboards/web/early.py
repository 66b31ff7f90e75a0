"""The page as HTML, in the server's first answer: what it says is readable before the browser has run any script.

`assets/lawn.js` removes it as soon as the page itself says as much. It holds what was read last, however old: no viewer
waits for the ledger before there is a page. Controls, figures and large tables are left free in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

from dashboards.web.filters import SPACE
from dashboards.web.markup import HTML, Markup, Node
from dashboards.web.page import Page
from dashboards.web.shell import content_of, first_of, frame, links, title_of
from dashboards.web.snapshot import Remembered, Snapshots
from lawn_tune.errors import LawnTuneError

ID = "early"
"""Of the element; every id in it begins with it, as the page itself has the same ones."""

EMPTY = frozenset({"br", "hr", "img", "input"})
"""Elements without an end tag."""

NAMES = {"className": "class", "htmlFor": "for"}
REFERENCES = frozenset({"id", "for", "aria-labelledby", "aria-describedby"})
"""Attributes that hold ids."""
UNUSED = frozenset({"n_clicks", "data-nav"})
"""What only scripts use; a link without the latter loads the page that it names."""


def early(source: Snapshots, pages: Sequence[Page], path: str, query: Mapping[str, Sequence[str]]) -> str:
    """Returns the page at an address as an element, or "" where it would have to be read first.

    Args:
        source: of the ledger; it is not asked.
        pages: in the order of the navigation.
        path: below the base path.
        query: name → values, as in the address.
    """
    known = Remembered(source)
    try:
        space = ("", *query.get(SPACE, ()))[-1] or first_of(known)
        known.snapshot(space)
    except LawnTuneError:
        return ""
    page = next((page for page in pages if page.path == path), None)
    place = {"path": path, SPACE: space, "filters": {name: list(values) for name, values in query.items()}}
    content = content_of(page, known, place)
    if getattr(content, "className", "") == "failure":
        return ""  # it may need what was not read
    shown = frame(known, links(known.base_path, pages, space, page), title_of(page), content)
    return f'<div id="{ID}">{html_of(shown)}</div>'


def html_of(content: Node) -> str:
    """Returns components and markup as HTML; in place of what works in the browser alone stands an empty element."""
    if content is None or isinstance(content, str | float | int):
        return "" if content is None else escape(str(content))
    if isinstance(content, list | tuple):
        return "".join(map(html_of, content))
    if isinstance(content, Mapping):
        return _element(content["tag"], content["attributes"], content["children"])
    described = content.to_plotly_json()
    props = dict(described["props"])
    if isinstance(content, Markup):
        return html_of(props["tree"])
    if described["namespace"] == HTML:
        return _element(described["type"].lower(), props, props.pop("children", None))
    return _element("div", {name: props[name] for name in ("className", "style") if name in props}, None)


def _element(tag: str, attributes: Mapping[str, Any], children: Node) -> str:
    start = f"<{tag}{''.join(_attributes(attributes))}>"
    return start if tag in EMPTY else f"{start}{html_of(children)}</{tag}>"


def _attributes(given: Mapping[str, Any]) -> Iterator[str]:
    for name, value in given.items():
        name = NAMES.get(name, name.lower())
        if value is None or value is False or name in UNUSED:
            continue
        if name == "style":
            value = ";".join(f"{_hyphened(key)}:{text}" for key, text in value.items())
        if name in REFERENCES:
            value = " ".join(f"{ID}-{part}" for part in str(value).split())
        if name == "href" and str(value).startswith("#"):
            value = f"#{ID}-{value[1:]}"
        yield f" {name}" if value is True else f' {name}="{escape(str(value))}"'


def _hyphened(name: str) -> str:
    """Returns a property's name in CSS: minHeight is min-height."""
    return "".join(f"-{letter.lower()}" if letter.isupper() else letter for letter in name)
