"""Markup that no callback knows, as one component.

The browser asks every Dash component after every change of a page whether it is affected. A table of a thousand cells
would be a thousand components; as markup it is one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from dash.development.base_component import Component

Node = Any
"""A text, a list of nodes, or `{"tag": "td", "attributes": {…}, "children": node}`; plain JSON values."""

HTML = "dash_html_components"


class Markup(Component):
    """Elements drawn by `assets/lawn.js`; texts in them are only text.

    Args:
        tree: made by `tree`.
    """

    _namespace, _type = "lawn_markup", "Markup"
    _prop_names, _valid_wildcard_attributes, _base_nodes = ["id", "tree"], [], []
    available_properties, available_wildcard_properties = _prop_names, []

    def __init__(self, tree: Node) -> None:
        super().__init__(tree=tree)  # type: ignore[no-untyped-call]


def tree(content: Component | str | float | Sequence[Any] | None) -> Node:
    """Returns components of `dash.html` as plain values.

    Raises:
        TypeError: another component is among them, which must stay one to work.
    """
    if content is None or isinstance(content, str):
        return content or ""
    if isinstance(content, list | tuple):
        return [tree(part) for part in content]
    if not isinstance(content, Component):
        return str(content)
    described = cast(Any, content).to_plotly_json()
    if described["namespace"] != HTML:
        raise TypeError(f"{described['type']} is not an HTML element; only these can be markup")
    attributes = {name: value for name, value in described["props"].items() if value is not None}
    children = tree(attributes.pop("children", None))
    return {"tag": described["type"].lower(), "attributes": attributes, "children": children}
