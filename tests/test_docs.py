"""The documentation agrees with the code: commands, flags, links, numbers, and the example."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from benchmarks import inference_page, page, results_page, scaling_page
from benchmarks.gpu_goals import GOALS
from lawn_tune.cli.main import app
from lawn_tune.comparison.compare import compare_space
from lawn_tune.comparison.renderers.markdown import escaped
from lawn_tune.comparison.verdicts import sentence
from lawn_tune.ledger.importing import import_bundle
from lawn_tune.planning.plan import plan
from lawn_tune.planning.spaces import builtin_spaces
from search_spaces.loader import load_space
from tests.helpers.memory_source import demo_source
from trainables.catalogue import page as methods_page
from trainables.catalogue.methods import METHODS

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
README = PAGES[0].read_text()
COMMAND_LINE = typer.main.get_group(app).commands
GROUPS = {name for name, command in COMMAND_LINE.items() if isinstance(command, typer.core.TyperGroup)}
COMMANDS = sorted(set(re.findall(r"^lawn-tune ([^#\n]+?)\s*(?:#.*)?$", README, re.MULTILINE)))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_resolve(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        if not target.startswith("https://"):
            assert (page.parent / target).exists(), target


def test_the_readme_lists_every_command() -> None:
    assert {command.split()[0] for command in COMMANDS} == COMMAND_LINE.keys()


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_of_the_readme_exists_with_its_flags(command: str) -> None:
    name, *words = command.split()
    arguments = [name, words[0]] if name in GROUPS else [name]
    result = CliRunner().invoke(app, [*arguments, "--help"])
    assert result.exit_code == 0
    for flag in (word for word in words if word.startswith("--")):
        assert re.search(rf"{flag}\b", result.output), flag


SPACES = (ROOT / "docs/spaces.md").read_text()


def test_the_spaces_of_the_page_on_spaces_plan(tmp_path: Path) -> None:
    blocks = re.findall(r"```toml\n(.*?)```", SPACES, re.DOTALL)
    for block, sizes in zip(blocks, ((10_000,), (10_000, 100_000), (10_000, 100_000), (128,)), strict=True):
        (tmp_path / "mine.toml").write_text(block)
        cells = plan(load_space(tmp_path / "mine.toml"))
        assert [str(cell.name) for cell in cells] == [
            f"mine/{method}/bs{size}" for method in ("adam", "adam-lawn") for size in sizes
        ]
    assert cells[-1].grid.size == 14


def test_the_readme_names_every_space_and_the_spaces_every_optimizer() -> None:
    for space in builtin_spaces():
        assert f"`{space}`" in README + SPACES
    text = "".join((ROOT / "search_spaces" / f"{space}.toml").read_text() for space in builtin_spaces())
    for optimizer in METHODS:
        assert f"[optimizers.{optimizer}]" in text


def test_readme_results_and_figures_are_generated_from_the_committed_bundles() -> None:
    found = results_page.pages()
    studies = {path.with_suffix(".md") for path in results_page.RESULTS.glob("*.bundle")}
    figures = set(results_page.RESULTS.glob("*/*.svg"))
    assert found.keys() == {results_page.README, results_page.PAGE, *studies, *figures}
    assert {path.parent.with_suffix(".md") for path in figures} == studies
    for path, text in found.items():
        assert path.read_text() == text, path
        assert path.suffix != ".svg" or len(text) < 60_000, path


def test_the_command_writes_what_is_committed_from_the_committed_bundle(tmp_path: Path) -> None:
    study = results_page.RESULTS / "movielens_100k_five_searches"
    page, figures = tmp_path / f"{study.name}.md", tmp_path / study.name
    words = ["report", f"{study}.bundle", "--format", "md", "--figures", str(figures), "--output", str(page)]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    assert page.read_text() == study.with_suffix(".md").read_text()
    assert {path.name: path.read_text() for path in figures.iterdir()} == {
        path.name: path.read_text() for path in study.glob("*.svg")
    }


def test_the_headline_has_a_row_for_each_measured_pair_and_says_what_is_known_of_one() -> None:
    source = demo_source(epochs=20)
    comparison = compare_space(source, "movielens_100k")
    rows = re.findall(
        r"^\| .* − .*", results_page.headline(results_page.Study("x", comparison, source.rows)), re.MULTILINE
    )
    measured = [pair for pair in comparison.pairs if pair.difference]
    assert len(rows) == len(measured) == 5
    pending = [pair for pair in comparison.pairs if not pair.difference]
    one = replace(comparison, pairs=(measured[0], *pending))
    assert escaped(sentence(measured[0])) in results_page.headline(results_page.Study("x", one, source.rows))


def test_the_example_of_the_readme_runs_and_holds_the_norms(tmp_path: Path) -> None:
    example = re.findall(r"```python\n(.+?)```", README, re.DOTALL)[0]
    check = """
for parameter, radius in optimizer.radii.items():
    assert abs(parameter.double().norm() / radius.double() - 1) < 1e-6
assert optimizer.constrained and len(optimizer.radii) == 2
"""
    (tmp_path / "example.py").write_text(example + check)
    subprocess.run([sys.executable, "-W", "error", "example.py"], cwd=tmp_path, check=True, timeout=120)


def test_the_makefile_and_ci_run_the_same_commands() -> None:
    makefile, ci = (ROOT / "Makefile").read_text(), (ROOT / ".ci/run").read_text()
    for target in ("demo", "test", "test-gpu", "check", "bench", "bench-check"):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)
    assert "make test" in ci
    assert "make check" in ci
    assert "make test-long" in ci


def test_the_performance_page_is_generated_from_the_committed_results() -> None:
    assert (ROOT / "docs/performance.md").read_text() == page.page()


TABLE_4 = {
    "gpu_hours": 0.75,
    "of_kind": {"steps": 0.5, "evaluation": 0.25},
    "of_cell": {"sgd batch 1000": 0.75},
    "trials": 35,
    "packs": 2,
}


def test_the_page_on_performance_says_on_which_gpu_it_was_measured_or_that_it_never_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for file in page.RESULTS.glob("*.json"):
        if file.name != "gpu.json":
            shutil.copy(file, tmp_path)
    monkeypatch.setattr(page, "RESULTS", tmp_path)
    assert "It never ran" in page.page()
    found: dict[str, Any] = {"device": {"name": "NVIDIA H100 80GB HBM3"}, "table4": TABLE_4}
    found["packs"] = {"not measured": "OutOfMemoryError: 80 GB"}
    found["goals"] = {name: goal.met(found) for name, goal in GOALS.items()}
    machine = {"libraries": {"torch": "2.14.1"}}
    content = {"date": "2027-01-31", "commit": "abc", "machine": machine, "results": found}
    (tmp_path / "gpu.json").write_text(json.dumps(content))
    text = page.page()
    assert "never" not in text.partition("## On a GPU")[2].partition("##")[0]
    assert "It ran on one NVIDIA H100 80GB HBM3, with torch 2.14.1, on 2027-01-31, at commit `abc`." in text
    assert "| Table 4, MovieLens-100k, GPU hours | at most 1 | 0.75 | yes |" in text
    assert "| epoch of VGG-19 / compiled plain loop | at most 1.05 | not measured | unknown |" in text
    assert "### VGG-19 on a GPU\n\nNot measured: not part of this run." in text
    assert "### Packs on a GPU\n\nNot measured: OutOfMemoryError: 80 GB." in text


def test_the_page_on_inference_is_generated_from_the_committed_results() -> None:
    assert (ROOT / "docs/inference.md").read_text() == inference_page.page()


def test_intervals_cover_what_they_say_in_the_committed_study() -> None:
    found = json.loads((ROOT / "benchmarks/results/coverage.json").read_text())["results"]
    assert all(one["least"] >= 94.8 and one["most"] <= 97.2 for one in found["coverage"])
    assert all(one["worst"] <= 5.1 for one in found["families"])
    assert all(one["least"] >= 92.5 for one in found["searches"])


def test_the_scaling_page_is_generated_from_the_committed_results() -> None:
    assert (ROOT / "docs/scaling.md").read_text() == scaling_page.page()


def test_the_page_on_methods_is_generated_from_the_catalogue() -> None:
    assert (ROOT / "docs/methods.md").read_text() == methods_page.page()


def test_every_method_says_what_it_does_and_where_it_comes_from() -> None:
    for row in METHODS.values():
        assert row.formula, row.name
        assert row.source, row.name


@pytest.mark.long
def test_the_committed_bundles_fit_into_one_ledger(tmp_path: Path) -> None:
    """Trials that several studies share have the same numbers in all of them."""
    for bundle in results_page.RESULTS.glob("*.bundle"):
        import_bundle(bundle, f"sqlite:///{tmp_path}/ledger.db", lambda *_: None, pytest.fail)
