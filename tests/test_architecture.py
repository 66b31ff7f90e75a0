"""The arrows: who may import whom, one place a foreign library, no cycles, no torch where planning happens."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("search_spaces", "trainables", "lawn_tune", "dashboards")

MAY_IMPORT = {
    "search_spaces": set(),
    "trainables": set(),
    "lawn_tune": {"search_spaces", "trainables"},
    "dashboards": {"search_spaces", "trainables", "lawn_tune"},
}
"""Packages of ours that each package may import, beside itself."""

TORCH_FREE = (
    "trainables.catalogue",
    "trainables.tasks",
    "trainables.outcomes",
    "trainables.examples",
    "trainables.data",
)
"""The part of trainables that the service may import outside its executors."""

PARTS = (
    ("errors", "words"),
    ("storage",),
    ("settings", "cells"),
    ("results",),
    ("planning",),
    ("comparison",),
    ("ledger",),
    ("executors",),
    ("launching",),
    ("cli",),
    ("__main__",),
)
"""Parts of lawn_tune from the lowest up; each may import those of lower lines only."""

ONLY_IN = {
    "ray": {
        "lawn_tune/executors/ray_tune.py",
        "lawn_tune/executors/ray_jobs.py",
        "lawn_tune/executors/patient_ray.py",
    },
    "optuna": {
        "lawn_tune/ledger/studies.py",
        "lawn_tune/ledger/study_rows.py",
        "lawn_tune/ledger/optuna_runs.py",
    },
    "plotly": {"dashboards/figures/"},
    "dash": {"dashboards/web/"},
    "dash_ag_grid": {"dashboards/web/"},
    "dash_mantine_components": {"dashboards/web/"},
    "waitress": {"dashboards/web/serve.py"},
    "PIL": {"trainables/workloads/decoding.py", "trainables/workloads/resized.py"},
    "sklearn": {"trainables/workloads/digits.py"},
    "torchvision": {"trainables/workloads/fashion_mnist.py"},
}
"""Library → the files that know it; a name that ends in "/" is a package, all of whose files may."""

WRITE_SIDE = (
    "lawn_tune.executors",
    "lawn_tune.launching",
    "lawn_tune.planning.packing",
    "lawn_tune.cli.launch",
)
"""What dashboards may not know of the service; the ledger itself is opened by the command line only."""


def files() -> list[Path]:
    return sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def imports(path: Path) -> frozenset[str]:
    """Every module a file imports, at any depth of its text."""
    return frozenset(_imports(ast.parse(path.read_text())))


def _imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names if _is_module(node.module, alias.name))


def _is_module(package: str, name: str) -> bool:
    folder = ROOT.joinpath(*package.split("."))
    return (folder / f"{name}.py").exists() or (folder / name / "__init__.py").exists()


def ours(path: Path) -> set[str]:
    return {name for name in imports(path) if name.split(".")[0] in PACKAGES}


@pytest.mark.parametrize("path", files(), ids=module_of)
def test_imports_go_down_only(path: Path) -> None:
    package = module_of(path).split(".")[0]
    foreign = {name.split(".")[0] for name in ours(path)} - {package}
    assert foreign <= MAY_IMPORT[package]


def test_parts_of_the_service_import_lower_ones_only() -> None:
    level = {part: place for place, parts in enumerate(PARTS) for part in parts}
    for path in files():
        package, _, rest = module_of(path).partition(".")
        part = rest.partition(".")[0]
        if package == "lawn_tune" and part:
            found = {name.split(".")[1] for name in ours(path) if name.startswith("lawn_tune.")} - {part}
            assert not [name for name in found if level[name] >= level[part]], module_of(path)


def test_the_service_has_few_parts_and_few_arrows_between_them() -> None:
    arrows = {
        (module_of(path).split(".")[1], name.split(".")[1])
        for path in files()
        for name in ours(path)
        if module_of(path).startswith("lawn_tune.") and name.startswith("lawn_tune.")
    }
    crossing = {(part, other) for part, other in arrows if part != other}
    parts = {
        path.stem for path in (ROOT / "lawn_tune").iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    assert parts - {"__init__"} == {part for parts in PARTS for part in parts}
    assert len(parts) <= 14
    assert len(crossing) <= 45


@pytest.mark.parametrize("name", ["free_epochs", "weight_decay"])
def test_a_control_s_hyperparameters_are_named_by_the_catalogue_and_the_mathematics_only(name: str) -> None:
    """Everything else asks the method for its switch, its roles and its labels."""
    for path in files():
        if name in path.read_text() and name in literals(path):
            assert within(path, "trainables/catalogue/") or within(path, "trainables/optimizers/"), module_of(path)


def literals(path: Path) -> set[object]:
    return {node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant)}


def uses(path: Path, library: str) -> bool:
    return any(name.split(".")[0] == library for name in imports(path))


def within(path: Path, place: str) -> bool:
    relative = str(path.relative_to(ROOT))
    return relative.startswith(place) if place.endswith("/") else relative == place


@pytest.mark.parametrize("path", files(), ids=module_of)
def test_each_foreign_library_is_known_to_one_place(path: Path) -> None:
    for library, places in ONLY_IN.items():
        if uses(path, library):
            assert any(within(path, place) for place in places), f"{module_of(path)} imports {library}"


def test_each_of_these_places_exists_and_uses_its_library() -> None:
    for library, places in ONLY_IN.items():
        for place in places:
            assert any(uses(path, library) for path in files() if within(path, place)), f"{library}: {place}"


def test_search_spaces_use_the_standard_library_only() -> None:
    for path in files():
        if module_of(path).startswith("search_spaces"):
            roots = {name.split(".")[0] for name in imports(path)}
            assert roots <= sys.stdlib_module_names | {"search_spaces"}


def test_only_executors_reach_training_code() -> None:
    for path in files():
        name = module_of(path)
        if name.startswith("lawn_tune") and not name.startswith("lawn_tune.executors"):
            reached = {found for found in ours(path) if found.startswith("trainables.")}
            assert all(found.startswith(TORCH_FREE) for found in reached), name


def test_dashboards_know_the_read_side_only() -> None:
    for path in files():
        if module_of(path).startswith("dashboards"):
            forbidden = WRITE_SIDE if path.name == "cli.py" else (*WRITE_SIDE, "lawn_tune.ledger", "lawn_tune.cli")
            assert not [found for found in ours(path) if found.startswith(forbidden)], module_of(path)


def test_there_is_no_import_cycle() -> None:
    modules = {module_of(path): path for path in files()}
    graph = {name: {found for found in ours(path) if found in modules} - {name} for name, path in modules.items()}
    packages = {name for name, path in modules.items() if path.name == "__init__.py"}
    for name, found in graph.items():  # importing a.b runs a's __init__, which every module of a may rely on
        graph[name] = {f for f in found if not (f in packages and name.startswith(f + "."))}
    order = list(TopologicalSorter(graph).static_order())
    assert len(order) == len(modules)


@pytest.mark.parametrize(
    "statement",
    [
        "import lawn_tune.planning.plan, lawn_tune.planning.packing, lawn_tune.planning.costs",
        "import lawn_tune.cli.main",
        "import lawn_tune.comparison.compare",
    ],
)
def test_planning_and_comparing_import_neither_torch_nor_ray_nor_optuna(statement: str) -> None:
    code = f"{statement}; import sys; print([m for m in ('torch', 'ray', 'optuna', 'sklearn') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert found.stdout.strip() == "[]"
