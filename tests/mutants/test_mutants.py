"""The tool of `make mutants`: what it changes and what not, how it samples, and that its tables are current."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.mutants.areas import AREAS, Area, areas_under
from tests.mutants.coverage_map import FileRun
from tests.mutants.equivalents import Equivalents
from tests.mutants.mutations import Mutation, mutations_of
from tests.mutants.sample import sample, shared
from tests.mutants.trials import chosen

ROOT = Path(__file__).parents[2]
CODE = '''
"""Text with 1 < 2 and True."""
from __future__ import annotations
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    import os
__all__ = ["f"][0:1]
Number = int | float

def f(x: int | None = 3, *, strict: bool = False) -> list[1]:
    """More text."""
    if x is None and not strict:
        raise ValueError(f"x must be {1 + 1}, got {x}")
    ℓ: float = 0.5; state.step[0] = 0
    log.warning("lost %d", 7)
    return [min(a) for a in zip(x, ℓ, strict=True) if a < x + 1]
'''


def changes(code: str) -> set[tuple[str, str]]:
    source = code.encode()
    return {(source[m.start : m.stop].decode(), m.text) for m in mutations_of("f.py", source)}


def test_meaning_is_changed_and_texts_and_declarations_are_not() -> None:
    assert changes(CODE) == {
        ("3", "4"),
        ("False", "True"),
        ("is", "is not"),
        ("x is None and not strict", "(not (x is None and (not strict)))"),
        ("x is None and not strict", "(x is None)"),
        ("x is None and not strict", "(not strict)"),
        ("not strict", "(strict)"),
        ('raise ValueError(f"x must be {1 + 1}, got {x}")', "pass"),
        ("0.5", "1.0"),
        ("state.step[0] = 0", "pass"),
        ("0", "1"),
        ('log.warning("lost %d", 7)', "pass"),
        ("min", "max"),
        ("a < x + 1", "(not (a < x + 1))"),
        ("<", "<="),
        ("+", "-"),
        ("1", "2"),
    }


@pytest.mark.parametrize("area", AREAS, ids=lambda area: area.name)
def test_a_mutation_of_our_code_changes_it_and_a_reader_sees_where(area: Area) -> None:
    file = area.sources(ROOT)[-1]
    source = (ROOT / file).read_bytes()
    for mutation in mutations_of(file, source)[::5]:
        if mutation.parses_in(source):
            assert ast.dump(ast.parse(mutation.applied_to(source))) != ast.dump(ast.parse(source))
        assert mutation.before != mutation.after
        lines = source.decode().split("\n")
        assert " ".join(lines[mutation.line - 1].split()) in mutation.before
        assert mutation.statement <= mutation.line


def test_a_sample_is_the_same_for_its_seed_and_shares_by_size() -> None:
    areas = areas_under("trainables")
    drawn = sample(ROOT, areas, 30, seed=1)
    assert drawn == sample(ROOT, areas, 30, seed=1)
    assert drawn != sample(ROOT, areas, 30, seed=2)
    assert sum(map(len, drawn.values())) == 30
    assert all(drawn.values())
    assert shared(10, {"a": 70, "b": 26, "c": 4}) == {"a": 7, "b": 3, "c": 0}
    assert shared(10, {"a": 3, "b": 2}) == {"a": 3, "b": 2}


def mutation(line: int) -> Mutation:
    return Mutation("f.py", line, line - 1, "f", 0, 1, "x", "a", "b")


def test_tests_that_run_the_line_come_first_then_their_neighbours_and_nobody_else() -> None:
    runs = {
        "a.py": FileRun({"a.py::slow": 2.0, "a.py::quick": 0.1, "a.py::other": 0.01}, {}, ""),
        "b.py": FileRun({"b.py::far": 0.5}, {"f.py": {"7": []}}, ""),
    }
    runs["a.py"].lines["f.py"] = {"5": ["a.py::slow", "a.py::quick"]}
    assert chosen(mutation(5), runs).nodes == ("a.py::quick", "a.py::slow", "a.py::other")
    assert chosen(mutation(6), runs).nodes == chosen(mutation(5), runs).nodes, "a line within that statement"
    assert set(chosen(mutation(7), runs).nodes) == {*runs["a.py"].seconds, "b.py::far"}, "run by an import"
    assert chosen(mutation(20), runs).nodes == (), "run by nothing"


def test_every_area_has_code_and_tests() -> None:
    for area in AREAS:
        assert area.sources(ROOT), area.name
        for place in area.tests:
            assert (ROOT / place).exists(), place


def test_every_equivalent_mutant_is_one_of_the_code_as_it_is_now() -> None:
    listed = Equivalents.read(Path(__file__).with_name("equivalent.toml")).reasons
    files = {file for file, *_ in listed}
    current = {(m.file, m.function, m.before, m.after) for f in files for m in mutations_of(f, (ROOT / f).read_bytes())}
    assert [entry for entry in listed if entry not in current] == []
