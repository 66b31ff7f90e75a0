"""Markup: whatever is made of HTML's elements equals the same as one component; nothing else can be."""

from __future__ import annotations

from typing import Any

import dash_mantine_components as dmc
import pytest
from dash import html
from hypothesis import given
from hypothesis import strategies as st

from dashboards.web.markup import tree

TEXTS = st.text(min_size=1, max_size=8)
TAGS = (html.Div, html.Td, html.Strong, html.Details)


def elements(children: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    content = st.one_of(TEXTS, children, st.lists(st.one_of(TEXTS, children), max_size=4))
    return st.builds(
        lambda tag, inside, name: tag(inside, className=name, **{"data-copy": name}),
        st.sampled_from(TAGS),
        content,
        TEXTS,
    )


@given(st.recursive(st.builds(html.Span), elements, max_leaves=12))
def test_every_text_element_and_attribute_is_there(component: Any) -> None:
    assert list(walked(tree(component))) == list(described(component))


def described(component: Any) -> Any:
    if not hasattr(component, "to_plotly_json"):
        yield component
        return
    known = component.to_plotly_json()
    inside = known["props"].pop("children", None)
    yield known["type"].lower(), known["props"]
    for child in inside if isinstance(inside, list) else [] if inside is None else [inside]:
        yield from described(child)


def walked(node: Any) -> Any:
    if isinstance(node, str):
        yield node
        return
    yield node["tag"], node["attributes"]
    inside = node["children"]
    for child in inside if isinstance(inside, list) else [inside] if inside else []:
        yield from walked(child)


def test_what_works_in_the_browser_is_refused() -> None:
    with pytest.raises(TypeError, match="Select"):
        tree(html.Div([dmc.Select(id="x")]))
