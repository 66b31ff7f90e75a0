"""The arguments of an optimizer class, as its source shows them: it is parsed and never run."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from lawn_tune.planning.sources import imports, source_file

LONGEST = 20
"""Definitions that are followed, from an import to what it imports and from a class to its base (our choice)."""


def class_arguments(root: Path, module: str, name: str) -> frozenset[str] | None:
    """Returns the names that a class's `__init__` takes by keyword.

    Args:
        root: folder that the module is imported from.
        module: dotted name.
        name: of the class in it.

    Returns:
        None where the source does not show them: `**kwargs`, a decorator, a factory, a base that is not in the folder.
    """
    for _ in range(LONGEST):
        found = _definition(root, module, name)
        if isinstance(found, tuple):
            module, name = found
        elif found is None or found.decorator_list or found.keywords:
            return None
        elif (init := _method(found, "__init__")) is not None:
            return None if init.decorator_list or _method(found, "__new__") else _names(init.args)
        elif len(found.bases) == 1 and isinstance(base := found.bases[0], ast.Name):
            name = base.id
        else:
            return None
    return None


def _definition(root: Path, module: str, name: str) -> ast.ClassDef | tuple[str, str] | None:
    """Returns the class of a name, or where it is imported from; None unless exactly one statement defines it."""
    file = source_file(root, module)
    if file is None:
        return None
    try:
        tree = ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return None
    package = file.relative_to(root).parent.parts
    found = [each for node in ast.walk(tree) for each in _defined(node, package, name)]
    (one,) = found if len(found) == 1 else (None,)
    return one


def _defined(node: ast.AST, package: tuple[str, ...], name: str) -> Iterator[ast.ClassDef | tuple[str, str] | None]:
    if isinstance(node, ast.ClassDef) and node.name == name:
        yield node
    elif isinstance(node, ast.ImportFrom):
        for alias, dotted in zip(node.names, imports(node, package), strict=True):
            if (alias.asname or alias.name) == name:
                origin, _, own = dotted.rpartition(".")
                yield origin, own
    elif isinstance(node, ast.Name) and node.id == name and isinstance(node.ctx, ast.Store):
        yield None


def _method(found: ast.ClassDef, name: str) -> ast.FunctionDef | None:
    return next((node for node in found.body if isinstance(node, ast.FunctionDef) and node.name == name), None)


def _names(arguments: ast.arguments) -> frozenset[str] | None:
    if arguments.kwarg is not None:
        return None
    positional = [*arguments.posonlyargs, *arguments.args][1:]
    named = [argument for argument in positional if argument not in arguments.posonlyargs]
    return frozenset(argument.arg for argument in (*named, *arguments.kwonlyargs))
