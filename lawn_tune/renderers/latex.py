"""A comparison as LaTeX tables for a paper."""

from __future__ import annotations

from lawn_tune.compare import Comparison
from lawn_tune.tables import DIFFERENCE_HEADER, Entry, difference_cells, table
from lawn_tune.words import fixed, method


def latex(comparison: Comparison) -> str:
    """Returns two booktabs tables: values as mean_{SE} (n), and the paired differences."""
    rows = table(comparison)
    values = [
        [
            _tex(method(optimizer)),
            *(_tex_entry(rows.entries.get((optimizer, batch)), rows.digits) for batch in rows.batch_sizes),
        ]
        for optimizer in rows.optimizers
    ]
    differences = [
        [_tex(value) for value in difference_cells(row)[:-1]] + [_tex(row.verdict) + _tex_marks(row.marks)]
        for row in rows.differences
    ]
    notes = [rf"${{}}^{{{n.mark}}}$ {_tex(n.flag.value)}: {_tex('. '.join(n.texts))}." for n in rows.footnotes]
    legend = " ".join([_tex(rows.caption), r"Subscripts are standard errors.", *notes, *map(_tex, rows.remarks)])
    header = ["Method", *(f"{b:,}".replace(",", "{,}") for b in rows.batch_sizes)]
    return "\n".join(
        (
            "% needs \\usepackage{booktabs}",
            *(f"% {line}" for line in (rows.headline, *rows.sentences)),
            _tex_table(header, values, f"{_tex(rows.title)}. {legend}"),
            _tex_table([_tex(name) for name in DIFFERENCE_HEADER], differences, "Paired differences, in points."),
        )
    )


def _tex_entry(entry: Entry | None, digits: int) -> str:
    if entry is None:
        return ""
    if entry.mean is None:
        return _tex(entry.text) + _tex_marks(entry.marks)
    mean = fixed(entry.mean, digits).replace("−", "-")
    number = rf"\mathbf{{{mean}}}" if entry.best else mean
    error = "" if entry.error is None else f"_{{{entry.error:.{digits}f}}}"
    paper = rf" {{\footnotesize paper {entry.published}}}" if entry.published else ""
    source = "" if entry.confirmed else ", search"
    return rf"${number}{error}$ ({entry.n}{source})" + _tex_marks(entry.marks) + paper


def _tex_marks(marks: tuple[str, ...]) -> str:
    return f"${{}}^{{{','.join(marks)}}}$" if marks else ""


def _tex_table(header: list[str], body: list[list[str]], caption: str) -> str:
    lines = [
        r"\begin{table}",
        rf"\caption{{{caption}}}",
        rf"\begin{{tabular}}{{l{'r' * (len(header) - 1)}}}",
        r"\toprule",
        " & ".join(header) + r" \\",
        r"\midrule",
        *(" & ".join(row) + r" \\" for row in body),
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines)


_TEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "−": "$-$", "±": r"$\pm$", "×": r"$\times$", "–": "--",
    "<": "$<$", ">": "$>$", "“": "``", "”": "''", "\n": " ",
}  # fmt: skip


def _tex(text: str) -> str:
    return "".join(_TEX.get(character, character) for character in text)
