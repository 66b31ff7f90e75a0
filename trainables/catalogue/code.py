"""What rows of the catalogue name as "package.module:attribute", imported in the process that trains."""

from __future__ import annotations

from pkgutil import resolve_name
from types import ModuleType
from typing import Any


class CodeError(ValueError):
    """Code that a row names and that cannot be imported or used; the text names it."""


def resolved(name: str) -> Any:
    """Returns the object of a name; its module is imported.

    Raises:
        CodeError: there is no such module, or nothing of that name in it.
    """
    try:
        found = resolve_name(name)
    except (ImportError, AttributeError, ValueError) as error:  # the last one of what is no name
        todo = "make it importable where training runs, for example by PYTHONPATH"
        raise CodeError(f"'{name}', which a row of the catalogue names, cannot be imported: {error}; {todo}") from error
    if isinstance(found, ModuleType):
        raise CodeError(f"'{name}', which a row of the catalogue names, is a module: write it as 'module:attribute'")
    return found
