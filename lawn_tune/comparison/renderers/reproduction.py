"""A table of the paper next to ours, as Markdown, LaTeX and HTML."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from html import escape

from lawn_tune.comparison.renderers.latex import tex, tex_table
from lawn_tune.comparison.renderers.markdown import escaped, pipes
from lawn_tune.comparison.reproduction import Block, Reproduction

STYLE = """:root{color-scheme:light dark}body{font:16px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto}
body{padding:0 1rem}
div{overflow-x:auto}table{border-collapse:collapse}th,td{padding:.2rem .8rem;text-align:right;white-space:nowrap}
th:first-child,td:first-child,th:nth-child(2),td:nth-child(2){text-align:left}tr.paper td{border-top:1px solid #8886}"""


def title(shown: Reproduction) -> str:
    """Returns the heading."""
    return f"Table {shown.number}: {shown.title}"


def summary(shown: Reproduction) -> str:
    """Returns how much of the table is trained."""
    return f"{shown.trained} of {shown.printed} printed values have a confirmed value of ours."


def markdown(shown: Reproduction) -> str:
    """Returns it in GitHub's dialect."""
    parts = [f"## {escaped(title(shown))}", escaped(summary(shown))]
    for block in shown.blocks:
        parts += [f"### {escaped(block.title)}", pipes([*map(escaped, _header(block))], _cells(block, escaped))]
    parts += [_bullets(shown.verdicts), *map(escaped, shown.protocols), _bullets(shown.remarks)]
    return "\n\n".join(part for part in parts if part) + "\n"


def latex(shown: Reproduction) -> str:
    """Returns booktabs tables, one per data set; the last one has the remarks below it."""
    tables = [
        tex_table(
            [*map(tex, _header(block))],
            _cells(block, tex),
            tex(f"{title(shown)}; {block.title}."),
            f"tab:lawn-table{shown.number}-{i}",
            [*map(tex, (summary(shown), *shown.verdicts, *shown.protocols, *shown.remarks))]
            if block is shown.blocks[-1]
            else [],
        )
        for i, block in enumerate(shown.blocks, 1)
    ]
    return "\n".join(("% needs \\usepackage{booktabs}", *tables)) + "\n"


def html(shown: Reproduction) -> str:
    """Returns one page without scripts or other files."""
    body = [f"<h1>{escape(title(shown))}</h1>", f"<p>{escape(summary(shown))}</p>", *map(_html_block, shown.blocks)]
    body += [_html_list(shown.verdicts), *(f"<p>{escape(text)}</p>" for text in shown.protocols)]
    body.append(_html_list(shown.remarks))
    meta = '<meta charset="utf-8"><meta name="viewport" content="width=device-width">'
    head = f"{meta}<title>{escape(title(shown))}</title><style>{STYLE}</style>"
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{"".join(body)}</body></html>\n'


WRITERS: Mapping[str, Callable[[Reproduction], str]] = {"md": markdown, "tex": latex, "html": html}
"""Suffix of a file → what is written to it."""


def _header(block: Block) -> list[str]:
    return ["Method", "Value", *block.columns]


def _cells(block: Block, clean: Callable[[str], str]) -> list[list[str]]:
    return [[*map(clean, (row.method, row.source, *row.texts))] for row in block.rows]


def _bullets(texts: Sequence[str]) -> str:
    return "\n".join(f"- {escaped(text)}" for text in texts)


def _html_block(block: Block) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in _header(block))
    rows = [
        ('<tr class="paper">' if row.source == "paper" else "<tr>")
        + "".join(f"<td>{cell}</td>" for cell in cells)
        + "</tr>"
        for row, cells in zip(block.rows, _cells(block, escape), strict=True)
    ]
    return f"<h2>{escape(block.title)}</h2><div><table><thead><tr>{head}</tr></thead>{''.join(rows)}</table></div>"


def _html_list(texts: Sequence[str]) -> str:
    items = "".join(f"<li>{escape(text)}</li>" for text in texts)
    return f"<ul>{items}</ul>" if items else ""
