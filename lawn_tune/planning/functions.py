"""Training functions and workloads of users, as rows of the catalogue."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from lawn_tune.planning.classes import COLORS, codes_of_classes
from lawn_tune.planning.sources import Code, Named, read_code
from search_spaces.space import SearchSpace
from trainables.catalogue import Catalogue
from trainables.catalogue.methods import METHODS

OWN = "own"
"""Name of the rule, model and loss of a training function, and of the latter two of a workload."""


def own_code(space: SearchSpace, classes: Mapping[str, Code]) -> Code:
    """Returns the sources of a space's training function or workload, with those of the optimizer classes it names.

    Args:
        classes: from `codes_of_classes`.

    Raises:
        SpaceError: see `read_code`; or two different files have one name.
    """
    named = Named(space, _key(space), space.code)
    code = read_code(named)
    if not code.files:
        raise named.error("must be code of your own")
    files = dict(code.files)
    for other in classes.values():
        for name, content in other.files.items():
            if files.setdefault(name, content) != content:
                raise named.error(f"there are two files {name}, one of them of {other}", "Rename one of them.")
    return replace(code, files=files)


def archives(spaces: Iterable[SearchSpace]) -> dict[str, bytes]:
    """Returns digest → sources as the bytes of a .zip, of the spaces that have some."""
    codes = [code for space in spaces for code in _codes(space)]
    return {code.digest: code.archive() for code in codes if code.digest}


def _codes(space: SearchSpace) -> list[Code]:
    classes = codes_of_classes(space)
    return [own_code(space, classes)] if space.code else list(classes.values())


def with_own_code(space: SearchSpace, known: Catalogue, classes: Mapping[str, Code]) -> tuple[SearchSpace, Catalogue]:
    """Returns a space of a training function or a workload as one that names rows, and the rows.

    Args:
        known: built-in and installed rows.
        classes: from `codes_of_classes`.

    Raises:
        SpaceError: see `own_code`.
        CatalogueError: a row that the space brings breaks the form.
    """
    where = f"{space.source}: {_key(space)}"
    whole = known.with_rows(_rows(space, own_code(space, classes)), where)
    whole = whole.with_rows(space.catalogue, f"{space.source}: catalogue") if space.catalogue else whole
    named = replace(space, dataset=space.code, model={"name": OWN}, loss=OWN)
    if space.workload:
        return named, whole
    return named, whole.with_rows({"methods": _methods(space, whole)}, f"{space.source}: optimizers")


def _rows(space: SearchSpace, code: Code) -> dict[str, Any]:
    """Returns the rows of a training function or a workload: only the latter has a model and a loss to name."""
    own = str(code)
    examples = space.examples or max(budget.batch_size for budget in space.budgets)
    build, loss = (f"{own}.model", f"{own}.loss") if space.workload else ("", "")
    pack = {} if space.workload else {"largest_pack": 1}
    parameters = sorted({row.name for method in METHODS.values() for row in method.loss})
    return {
        "rules": {} if space.workload else {OWN: {"label": OWN, "direction": "", "state": []}},
        "models": {OWN: {"label": OWN, "data": OWN, "build": build} | pack},
        "losses": {OWN: {"label": OWN, "targets": OWN, "function": loss, "parameters": parameters}},
        "datasets": {
            space.code: {
                "summary": f"what {space.code} trains on",
                "data": OWN,
                "targets": OWN,
                "metrics": [space.metric],
                "workload": own,
                "train_examples": examples,
                "full_examples": examples,
                "code": code.digest,
                "files": [{"path": path, "url": "", "sha256": digest} for path, digest in space.data.items()],
            }
        },
    }


def _methods(space: SearchSpace, known: Catalogue) -> dict[str, dict[str, Any]]:
    """Returns rows of methods that the space names and the catalogue lacks: pairs share a color."""
    baselines = {pair.challenger: pair.baseline for pair in reversed(space.compare)}
    missing = [name for name in space.grids if name not in known.methods and name not in space.classes]
    colors: dict[str, str] = {}
    for name in missing:
        base = baselines.get(name, name)
        row = known.methods.get(base)
        colors.setdefault(base, row.shown_color if row else COLORS[len(colors) % len(COLORS)])
    return {
        name: {"label": name, "rule": OWN, "color": colors[baselines.get(name, name)]}
        | ({"baseline": baselines[name]} if name in baselines else {})
        for name in missing
    }


def _key(space: SearchSpace) -> str:
    return "workload" if space.workload else "trainable"
