"""The tool of `make mutants`: what it changes and what not, how it samples, and that its tables are current."""

from __future__ import annotations

import ast
from dataclasses import replace
from pathlib import Path

import pytest

from tests.mutants.areas import AREAS, IN_OTHER_PROCESSES, Area, areas_under, others
from tests.mutants.coverage_map import FileRun, Kept
from tests.mutants.equivalents import Equivalents
from tests.mutants.mutations import Mutation, mutations_of
from tests.mutants.report import Report
from tests.mutants.sample import in_drawing_order, sample, shared
from tests.mutants.trials import BUDGET, IMPORTING, chosen
from tests.mutants.workshop import Outcome

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
    assert chosen(mutation(7), runs).nodes == ("b.py::far",), "run by an import"
    runs["a.py"].lines["f.py"]["7"] = ["a.py::slow"]
    assert set(chosen(mutation(7), runs).nodes) == {*runs["a.py"].seconds, "b.py::far"}, "and by whoever imports first"
    del runs["a.py"].lines["f.py"]["7"]
    assert chosen(mutation(20), runs).nodes == (), "run by nothing"
    for file, tests in IN_OTHER_PROCESSES.items():
        known = {test: FileRun({f"{test}::law": 1.0}, {}, "") for test in (*tests, "c.py")}
        assert {*chosen(replace(mutation(20), file=file), known).files} == {*tests}


def test_a_change_of_the_code_redraws_nothing_but_itself() -> None:
    lines = [f"x = {i}\n" for i in range(30)]
    of = [mutations_of("f.py", "".join(code).encode()) for code in (lines, ["y = 7\n", *lines])]
    old, new = ([mutation.shown for mutation in in_drawing_order(mutations, "1")] for mutations in of)
    assert [shown for shown in new if shown in old] == old
    assert len(new) == len(old) + 1
    twice = mutations_of("f.py", b"x = 1\nx = 1\n")
    assert len(in_drawing_order(twice, "1")) == len(twice) == 2


def test_the_test_that_noticed_a_mutant_is_tried_first_in_the_next_run(tmp_path: Path) -> None:
    tests = [f"a.py::{i}" for i in range(3)]
    run = FileRun(dict.fromkeys(tests, 1.0), {"f.py": {"5": tests}}, "")
    report = Report(1, tmp_path / "mutants.json")
    report.begin("area", equivalent=0)
    report.add("area", Outcome(mutation(5), "a.py::2", 1.0, 3))
    report.add("area", Outcome(replace(mutation(5), after="c"), "", 1.0, 3))
    assert report.survivors("area") == [replace(mutation(5), after="c")]
    report.add("area", Outcome(replace(mutation(5), after="d"), "", 1.0, 3))
    report.add("area", Outcome(replace(mutation(5), after="d"), "timeout", 1.0, 3))
    assert report.noticed_share == 2 / 3
    last = Report(1, tmp_path / "mutants.json").last
    assert last == {mutation(500).shown: "a.py::2", replace(mutation(5), after="d").shown: "timeout"}
    assert chosen(mutation(5), {"a.py": run}, last[mutation(5).shown]).nodes == ("a.py::2", "a.py::0", "a.py::1")
    again = Report(1, tmp_path / "mutants.json")
    assert again.noticed_by([mutation(5)], {"a.py", "b.py"}) == ["a.py"]
    assert again.noticed_by([mutation(5)], {"b.py"}) == []
    assert chosen(mutation(5), {"a.py": run}, "gone.py::2").nodes == ("a.py::0", "a.py::1", "a.py::2")


def test_no_more_tests_are_chosen_than_the_budget_allows_but_one() -> None:
    lines = {"f.py": {"5": [f"a.py::{i}" for i in range(9)]}}
    run = FileRun({f"a.py::{i}": BUDGET / 4 for i in range(9)}, lines, "")
    assert len(chosen(mutation(5), {"a.py": run}).nodes) == 3, "four, were there no file to import"
    assert len(chosen(mutation(5), {"a.py": run}, budget=2 * BUDGET).nodes) == 7
    long = FileRun({"a.py::0": 2 * BUDGET, "a.py::1": 3 * BUDGET}, lines, "")
    assert chosen(mutation(5), {"a.py": long}).nodes == ("a.py::0",)
    dear = FileRun({f"a.py::{i}": 0.0 for i in range(9)}, lines, "", opening=2 * BUDGET)
    other = FileRun({"b.py::0": 1.0}, {"f.py": {"5": ["b.py::0"]}}, "")
    assert chosen(mutation(5), {"a.py": dear, "b.py": other}).nodes == ("b.py::0",)
    assert len(chosen(mutation(5), {"a.py": replace(dear, opening=BUDGET - IMPORTING)}).nodes) == 9, "opened once"


def test_a_case_of_every_test_is_tried_before_the_other_cases_of_one() -> None:
    run = FileRun({"a.py::law[1]": 0.1, "a.py::law[2]": 0.2, "a.py::other": 3.0}, {}, "")
    run.lines["f.py"] = {"5": [*run.seconds]}
    assert chosen(mutation(5), {"a.py": run}).nodes == ("a.py::law[1]", "a.py::other", "a.py::law[2]")


def test_of_tests_that_load_a_line_those_named_after_its_module_come_first() -> None:
    lines: dict[str, dict[str, list[str]]] = {"a/f.py": {"5": []}}
    runs = {file: FileRun({f"{file}::law": took}, lines, "") for file, took in (("test_a.py", 0.1), ("test_f.py", 0.2))}
    assert chosen(replace(mutation(5), file="a/f.py"), runs).nodes == ("test_f.py::law", "test_a.py::law")


def test_other_areas_tests_are_tried_too_but_for_those_that_start_ray_or_a_browser() -> None:
    for area in AREAS:
        own, more = {*area.test_files(ROOT)}, {*others(ROOT, area)}
        assert not own & more
        assert {"tests/cli/test_options.py", "tests/dashboards/test_numbers.py"} <= own | more
        assert not {"tests/dashboards/test_web_shell.py", "tests/plugins/test_plugins.py"} & more


def test_an_observation_is_of_use_until_what_the_tests_load_changes(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("tests/test_a.py", "lawn_tune/loaded.py", "lawn_tune/other.py")]
    for file in [*files, tmp_path / "tests/helpers/given.py", tmp_path / "trainables/kernels.c"]:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("")
    kept = Kept(tmp_path, tmp_path / "kept")
    run = FileRun({"tests/test_a.py::a": 1.0}, {}, "", ["lawn_tune/loaded.py", "tests/helpers/given.py"])
    assert kept.read("tests/test_a.py") is None
    kept.write("tests/test_a.py", run)
    files[2].write_text("changed")
    assert kept.read("tests/test_a.py") == run
    for file in (*files[:2], tmp_path / "tests/helpers/given.py", tmp_path / "trainables/kernels.c"):
        file.write_text("changed")
        assert kept.read("tests/test_a.py") is None
        file.write_text("")
        assert kept.read("tests/test_a.py") == run


def test_every_area_has_code_and_tests() -> None:
    for area in AREAS:
        assert area.sources(ROOT), area.name
        for place in area.tests:
            assert (ROOT / place).exists(), place
    for file, tests in IN_OTHER_PROCESSES.items():
        of = [area.test_files(ROOT) for area in AREAS if file in area.sources(ROOT)]
        assert any({*tests} <= {*files} for files in of), file


def test_equivalent_mutants_are_matched_by_text_and_have_reasons(tmp_path: Path) -> None:
    file = tmp_path / "equivalent.toml"
    entry = '[[mutant]]\nfile = "f.py"\nfunction = "f"\nbefore = "a"\nafter = "b"\nreason = "{}"\n'
    file.write_text(entry.format("the same"))
    listed = Equivalents.read(file)
    assert listed.lists(mutation(5))
    assert listed.lists(mutation(500))
    assert not listed.lists(replace(mutation(5), after="c"))
    assert listed.stale({"f.py": [mutation(9)]}) == []
    assert listed.stale({"f.py": []}) == [("f.py", "f", "a", "b")]
    file.write_text(entry.format(" "))
    with pytest.raises(ValueError, match="every entry needs a reason"):
        Equivalents.read(file)


def test_the_reviewed_list_can_be_read() -> None:
    assert Equivalents.read(Path(__file__).with_name("equivalent.toml")).reasons
