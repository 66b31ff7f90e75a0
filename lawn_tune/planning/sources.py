"""Source files of what a space names by "module:attribute": they are read and never run."""

from __future__ import annotations

import ast
import hashlib
import io
import sys
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from search_spaces.keys import did_you_mean, space_error
from search_spaces.space import SearchSpace, SpaceError

LARGEST = 20_000_000
"""Bytes that the source files of a name may have in total: they travel to every worker (our choice)."""

INSTALLED = ("torch", "trainables")
"""Packages that every worker has: their sources neither travel nor count."""

FORM = 'Write it as "file.py:name", a file next to the space, or "package.module:name".'


@dataclass(frozen=True)
class Named:
    """A name in a space, and where it is.

    Args:
        space: the space.
        key: dotted key in its file.
        text: the name, "file.py:name" or "package.module:name".
    """

    space: SearchSpace
    key: str
    text: str

    def error(self, rule: str, todo: str = FORM) -> SpaceError:
        """Returns the error of this key."""
        return space_error(self.space.source, self.key, rule, self.text, todo)


@dataclass(frozen=True)
class Code:
    """The source of a training function, a workload or an optimizer class.

    Args:
        module, attribute: what a worker imports.
        files: path below the folder that is imported from → content.
    """

    module: str
    attribute: str
    files: Mapping[str, bytes]

    def __str__(self) -> str:
        """What a worker imports, as "module:attribute"."""
        return f"{self.module}:{self.attribute}"

    @cached_property
    def digest(self) -> str:
        """16 hex digits of a hash of names and contents; "" where no file counts."""
        if not self.files:
            return ""
        found = hashlib.sha256()
        for name, content in sorted(self.files.items()):
            found.update(f"{name}\0{len(content)}\0".encode() + content)
        return found.hexdigest()[:16]

    def archive(self) -> bytes:
        """Returns the files as the bytes of a .zip, whose comment is the digest."""
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.comment = self.digest.encode()
            for name, content in self.files.items():
                archive.writestr(name, content)
        return buffer.getvalue()


def read_code(named: Named) -> Code:
    """Reads the source files of a name, none of which is run.

    They are those that `sources` of the space names, else all of the name's package, else its file and what that
    imports from the same folder.

    Raises:
        SpaceError: there is nothing of this name, or a file cannot be read or parsed.
    """
    root, module, attribute = located(named)
    file = source_file(root, module)
    if file is None:
        raise named.error(f"there is no module {module} in {root}")
    _check_attribute(named, file, attribute)
    package = root / module.partition(".")[0]
    if module.partition(".")[0] in INSTALLED:
        files: set[Path] = set()
    elif named.space.sources:
        files = {file, *_listed(named, root)}
    elif package.is_dir() and file.parent != root:
        files = set(package.rglob("*.py"))
    else:
        files = set(_closure(named, root, file))
    return Code(module, attribute, _contents(named, root, files))


# --- where the source is ---------------------------------------------------------------------------------------------


def located(named: Named) -> tuple[Path, str, str]:
    """Returns the folder that a name is imported from, its module and its attribute.

    Raises:
        SpaceError: it has another form, or there is no such file or module.
    """
    place, colon, attribute = named.text.rpartition(":")
    if not colon or not place or not attribute.isidentifier():
        raise named.error("must name a module and what is in it")
    return (*(_file(named, place) if place.endswith(".py") else _module(named, place)), attribute)


def _file(named: Named, place: str) -> tuple[Path, str]:
    """Returns the folder and the module's name of a file named relative to the space."""
    file = named.space.source.parent / place
    if not file.is_file():
        raise named.error(f"there is no file {file}")
    return file.parent, file.stem


def _module(named: Named, name: str) -> tuple[Path, str]:
    """Returns the first folder next to the space or on Python's path that has a module's top-level package."""
    top = name.partition(".")[0]
    for folder in (named.space.source.parent, Path.cwd(), *map(Path, sys.path)):
        if ((folder / top).is_dir() and source_file(folder, name)) or (folder / f"{top}.py").is_file():
            return folder, name
    raise named.error(f"there is no module {name} next to the space or on Python's path")


def source_file(root: Path, module: str) -> Path | None:
    """Returns the file of a module below a folder, None where there is none."""
    stem = root.joinpath(*module.split("."))
    return next((file for file in (stem.with_suffix(".py"), stem / "__init__.py") if file.is_file()), None)


def _listed(named: Named, root: Path) -> Iterator[Path]:
    for pattern in named.space.sources:
        if Path(pattern).is_absolute() or ".." in Path(pattern).parts:
            raise space_error(named.space.source, "sources", f"must be within {root}", pattern, "Move the file there.")
        found = [file for file in root.glob(pattern) if file.is_file()]
        if not found:
            raise space_error(named.space.source, "sources", f"matches no file in {root}", pattern, "Correct it.")
        yield from found


def _contents(named: Named, root: Path, files: Iterable[Path]) -> dict[str, bytes]:
    try:
        found = {file.relative_to(root).as_posix(): file.read_bytes() for file in sorted(files)}
    except OSError as error:
        text = f"{error.filename} cannot be read: {error.strerror}"
        raise named.error(text, "Check its permissions.") from None
    if (size := sum(map(len, found.values()))) > LARGEST:
        rule = f"its {len(found)} source files have {size:,} bytes, at most {LARGEST:,} travel to workers"
        raise named.error(rule, "List the files that it needs as `sources`.")
    return found


# --- what it imports -------------------------------------------------------------------------------------------------


def _closure(named: Named, root: Path, first: Path) -> list[Path]:
    """Returns a file and the files of a folder that it imports, and those import."""
    files = [first]
    for file in files:  # grows
        for name in _imported(_parsed(named, file), file.relative_to(root).parent.parts):
            files += [found for found in _files_of(root, name) if found not in files]
    return files


def _imported(tree: ast.AST, package: Sequence[str]) -> Iterator[str]:
    """Yields the dotted names that may be modules."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from imports(node, package)


def imports(node: ast.ImportFrom, package: Sequence[str]) -> list[str]:
    """Returns the dotted name of everything that a statement imports, seen from a module of a package."""
    above = package[: len(package) - node.level + 1] if node.level else ()
    base = ".".join([*above, *([node.module] if node.module else [])])
    return [f"{base}.{alias.name}".lstrip(".") for alias in node.names]


def _files_of(root: Path, name: str) -> Iterator[Path]:
    """Yields the files that an import of a dotted name runs, as far as they are in a folder."""
    parts = name.split(".")
    for end in range(1, len(parts) + 1):
        if file := source_file(root, ".".join(parts[:end])):
            yield file


def _check_attribute(named: Named, file: Path, attribute: str) -> None:
    """Refuses a name that the module does not define, as far as that can be seen without running it."""
    names: set[str] = set()
    for node in _parsed(named, file).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {target.id for target in targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.If | ast.Try | ast.With | ast.For):
            return  # it may define anything
    if attribute not in names and "*" not in names:
        todo = f"{did_you_mean(attribute, names)}Define it, or correct the name."
        raise named.error(f"{file} defines no {attribute}", todo)


def _parsed(named: Named, file: Path) -> ast.Module:
    try:
        return ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError) as error:
        line = f":{error.lineno}" if isinstance(error, SyntaxError) else ""
        text = f"{file}{line} cannot be parsed: {getattr(error, 'msg', None) or error}"
        raise named.error(text, "Correct that file.") from None
