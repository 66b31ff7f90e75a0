"""A comparison as LaTeX tables for a paper."""

from __future__ import annotations

import re

from lawn_tune.comparison.comparison import Comparison
from lawn_tune.comparison.tables import DIFFERENCE_HEADER, Entry, Footnote, difference_cells, table
from lawn_tune.words import fixed, method


def latex(comparison: Comparison) -> str:
    """Returns booktabs tables, captions short and caveats below: values as mean_{SE} (n), and paired differences."""
    rows = table(comparison)
    values = [
        [
            tex(method(optimizer)),
            *(_tex_entry(rows.entries.get((optimizer, batch)), rows.digits) for batch in rows.batch_sizes),
        ]
        for optimizer in rows.optimizers
    ]
    differences = [
        [tex(value) for value in difference_cells(row)[:-1]] + [tex(row.verdict) + _tex_marks(row.marks)]
        for row in rows.differences
    ]
    notes = [line for note in rows.footnotes for line in _tex_footnote(note)]
    legend = [tex(rows.caption), *notes, *map(tex, rows.remarks)]
    label = re.sub(r"[^A-Za-z0-9]+", "-", comparison.space).strip("-") or "space"
    header = ["Method", *(f"{b:,}".replace(",", "{,}") for b in rows.batch_sizes)]
    title = f"{tex(rows.title)}, mean with standard error as subscript ($n$)."
    tables = [tex_table(header, values, title, f"tab:lawn-{label}", legend)]
    if differences:
        names = [tex(name) for name in DIFFERENCE_HEADER]
        title = f"{tex(comparison.space)}: {tex(rows.differences_title)}."
        notes = [tex(rows.overall)] if rows.overall else []
        tables.append(tex_table(names, differences, title, f"tab:lawn-{label}-differences", notes))
    lines = "\n".join(
        (
            "% needs \\usepackage{booktabs}",
            *(f"% {line}" for line in (rows.headline, *rows.sentences)),
            *tables,
        )
    )
    return f"{lines}\n"


def _tex_entry(entry: Entry | None, digits: int) -> str:
    if entry is None:
        return ""
    if entry.mean is None or not entry.n:
        return tex(entry.text) + _tex_marks(entry.marks)
    mean = fixed(entry.mean, digits).replace("−", "-")
    number = rf"\mathbf{{{mean}}}" if entry.best else mean
    error = "" if entry.error is None else f"_{{{entry.error:.{digits}f}}}"
    paper = rf" {{\footnotesize paper {entry.published}}}" if entry.published else ""
    source = "" if entry.confirmed else ", search"
    return rf"${number}{error}$ ({entry.n}{source})" + _tex_marks(entry.marks) + paper


def _tex_footnote(note: Footnote) -> list[str]:
    return [f"{_tex_marks((note.mark,))} {tex(note.flag.value)}", *(rf"\quad {tex(text)}" for text in note.texts)]


def _tex_marks(marks: tuple[str, ...]) -> str:
    return f"${{}}^{{{','.join(marks)}}}$" if marks else ""


def tex_table(header: list[str], body: list[list[str]], caption: str, label: str, notes: list[str]) -> str:
    """Returns a booktabs table of clean texts, with paragraphs below it."""
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{caption}}}",
        rf"\label{{{label}}}",
        rf"\begin{{tabular}}{{l{'r' * (len(header) - 1)}}}",
        r"\toprule",
        " & ".join(header) + r" \\",
        r"\midrule",
        *(" & ".join(row) + r" \\" for row in body),
        r"\bottomrule",
        r"\end{tabular}",
        *_tex_notes(notes),
        r"\end{table}",
    ]
    return "\n".join(lines)


def _tex_notes(notes: list[str]) -> list[str]:
    if not notes:
        return []
    paragraphs = [rf"{text}\par" for text in notes]
    return [r"\par\smallskip", r"\begin{minipage}{\linewidth}\footnotesize", *paragraphs, r"\end{minipage}"]


_TEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "−": "$-$", "±": r"$\pm$", "×": r"$\times$", "–": "--",
    "<": "$<$", ">": "$>$", "“": "``", "”": "''", "\n": " ",
}  # fmt: skip


def tex(text: str) -> str:
    """Returns text in which nothing is read as LaTeX."""
    return "".join(_TEX.get(character, character) for character in text)
