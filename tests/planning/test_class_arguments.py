"""The arguments of a class, read from its source: exactly those that the import would show, or none at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from lawn_tune.planning.class_arguments import LONGEST, class_arguments

LION = """
class Lion(Optimizer):
    scale = 1

    def step(self, closure=None): ...

    def __init__(self, params, lr=1e-4, *, decay=0.0): ...
"""
TAKEN = {"params", "lr", "decay"}
BASE = LION.replace("Lion", "Cat")


def chain(length: int) -> str:
    """Source of classes of which each is the base of the one before."""
    names = ["Lion", *(f"C{i}" for i in range(1, length))]
    bases = [*names[1:], "Optimizer"]
    init = "    def __init__(self, params, lr=1e-4, *, decay=0.0): ...\n"
    return "".join(
        f"class {n}({b}):\n{init if n == names[-1] else '    x = 1'}\n" for n, b in zip(names, bases, strict=True)
    )


SHOWN = {
    "a class": {"lion.py": LION},
    "in a package": {"lion/__init__.py": LION},
    "beside others": {"lion.py": f"import os\nx = Lioness = 1\nprint(Lion)\n{BASE}{LION}def lion(): ...\n"},
    "within a condition": {"lion.py": "if x:" + LION.replace("\n", "\n    ")},
    "its base": {"lion.py": BASE + "class Lion(Cat): ...\n"},
    "as many bases as are followed": {"lion.py": chain(LONGEST)},
    "imported": {"lion.py": "from cats import Cat as Lion, Tiger", "cats.py": BASE},
    "imported with its name": {"lion.py": "from cats import Lion", "cats.py": LION},
    "imported as a base": {"lion.py": "from cats import Cat\nclass Lion(Cat): ...", "cats.py": BASE},
    "a base in its package": {
        "lion.py": "from beasts.cats import Lion as Lion",
        "beasts/cats.py": "from .base import Cat\nclass Lion(Cat): ...",
        "beasts/base.py": BASE,
    },
    "from the package above": {
        "lion.py": "from beasts.big.cats import Lion",
        "beasts/big/cats.py": "from ..base import Cat as Lion",
        "beasts/base.py": BASE,
    },
}
HIDDEN = {
    "no file": {},
    "no such class": {"lion.py": BASE},
    "not Python": {"lion.py": LION + "class"},
    "keywords": {"lion.py": LION.replace("decay=0.0", "**more")},
    "a function": {"lion.py": "def Lion(params, lr): ..."},
    "assigned": {"lion.py": "from torch.optim import *\nLion = AdamW"},
    "assigned again": {"lion.py": LION + "Lion = wrapped(Lion)"},
    "two classes": {"lion.py": LION + LION},
    "imported and defined": {"lion.py": "from cats import Lion" + LION, "cats.py": LION},
    "a decorated class": {"lion.py": LION.replace("class", "@decorated\nclass")},
    "a decorated initializer": {"lion.py": LION.replace("    def __init__", "    @decorated\n    def __init__")},
    "a class with a constructor": {"lion.py": LION + "    def __new__(cls, *a, **k): ..."},
    "a metaclass": {"lion.py": LION.replace("(Optimizer)", "(Optimizer, metaclass=Meta)")},
    "two bases": {"lion.py": BASE + "class Lion(Cat, Mixin): ..."},
    "no base": {"lion.py": "class Lion: ..."},
    "a base of a module": {"lion.py": BASE + "class Lion(cats.Cat): ..."},
    "a base that is not there": {"lion.py": "from cats import Cat\nclass Lion(Cat): ..."},
    "its own base": {"lion.py": "class Lion(Lion): ..."},
    "a circle of bases": {"lion.py": "class Lion(Cat): ...\nclass Cat(Lion): ..."},
    "more bases than are followed": {"lion.py": chain(21)},
}


def arguments(folder: Path, files: dict[str, str]) -> set[str] | None:
    for name, text in files.items():
        (folder / name).parent.mkdir(exist_ok=True, parents=True)
        (folder / name).write_text(text)
    found = class_arguments(folder, "lion", "Lion")
    return None if found is None else set(found)


@pytest.mark.parametrize("files", SHOWN.values(), ids=SHOWN)
def test_what_the_source_shows_is_found(files: dict[str, str], tmp_path: Path) -> None:
    assert arguments(tmp_path, files) == TAKEN


@pytest.mark.parametrize("files", HIDDEN.values(), ids=HIDDEN)
def test_what_the_source_does_not_show_for_certain_is_unknown(files: dict[str, str], tmp_path: Path) -> None:
    assert arguments(tmp_path, files) is None


def test_what_is_positional_only_has_no_name(tmp_path: Path) -> None:
    positional = LION.replace("self, params, ", "self, params, decay2, /, ")
    assert arguments(tmp_path, {"lion.py": positional}) == {"lr", "decay"}
    assert arguments(tmp_path, {"lion.py": LION.replace("self, ", "self, /, ")}) == TAKEN
