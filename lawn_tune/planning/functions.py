"""Training functions and workloads of users, as rows of the catalogue: their source files are read and never run."""

from __future__ import annotations

import ast
import hashlib
import io
import sys
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from search_spaces.keys import did_you_mean, space_error
from search_spaces.space import SearchSpace, SpaceError
from trainables.catalogue import Catalogue
from trainables.catalogue.methods import METHODS

OWN = "own"
"""Name of the rule, model and loss of a training function, and of the latter two of a workload."""

LARGEST = 20_000_000
"""Bytes that the source files may have in total: they travel to every worker (our choice)."""

COLORS = ("#a067b1", "#12868f", "#a8591a", "#5b83b1", "#2d8a4e", "#c2478f")
"""Of methods that the space names and the catalogue lacks; each pair of a comparison has one."""

FORM = 'Write it as "file.py:name", a file next to the space, or "package.module:name".'


@dataclass(frozen=True)
class Code:
    """The source of a training function or a workload.

    Args:
        module, attribute: what a worker imports.
        files: path below the folder that is imported from → content.
    """

    module: str
    attribute: str
    files: Mapping[str, bytes]

    @cached_property
    def digest(self) -> str:
        """16 hex digits of a hash of names and contents."""
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


def read_code(space: SearchSpace) -> Code:
    """Reads the source files of a space's training function or workload, none of which is run.

    They are those that `sources` names, else all of its package, else its file and what that imports from the same
    folder.

    Raises:
        SpaceError: there is no such function or class, or a file cannot be read or parsed.
    """
    place, colon, attribute = space.code.rpartition(":")
    if not colon or not place or not attribute.isidentifier():
        raise _error(space, f"must name a module and a {'class' if space.workload else 'function'}", FORM)
    alone = place.endswith(".py")
    root, module = _file(space, place) if alone else _module(space, place)
    file = _source(root, module)
    if file is None:
        raise _error(space, f"there is no module {module} in {root}", FORM)
    _check_defined(space, file, attribute)
    package = root / module.partition(".")[0]
    if space.sources:
        files = {file, *_listed(space, root)}
    elif package.is_dir() and not alone:
        files = set(package.rglob("*.py"))
    else:
        files = set(_closure(space, root, file))
    return Code(module, attribute, _contents(space, root, files))


def archives(spaces: Iterable[SearchSpace]) -> dict[str, bytes]:
    """Returns digest → sources as the bytes of a .zip, of the spaces that have some."""
    return {code.digest: code.archive() for code in map(read_code, (s for s in spaces if s.code))}


def with_own_code(space: SearchSpace, known: Catalogue) -> tuple[SearchSpace, Catalogue]:
    """Returns a space of a training function or a workload as one that names rows, and the rows.

    Args:
        known: built-in and installed rows.

    Raises:
        SpaceError: see `read_code`.
        CatalogueError: a row that the space brings breaks the form.
    """
    where = f"{space.source}: {_key(space)}"
    whole = known.with_rows(_rows(space, read_code(space)), where)
    whole = whole.with_rows(space.catalogue, f"{space.source}: catalogue") if space.catalogue else whole
    named = replace(space, dataset=space.code, model={"name": OWN}, loss=OWN)
    if space.workload:
        return named, whole
    return named, whole.with_rows({"methods": _methods(space, whole)}, f"{space.source}: optimizers")


def _rows(space: SearchSpace, code: Code) -> dict[str, Any]:
    """Returns the rows of a training function or a workload: only the latter has a model and a loss to name."""
    own = f"{code.module}:{code.attribute}"
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
    missing = [name for name in space.grids if name not in known.methods]
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


def _error(space: SearchSpace, rule: str, todo: str) -> SpaceError:
    return space_error(space.source, _key(space), rule, space.code, todo)


# --- where the source is ---------------------------------------------------------------------------------------------


def _file(space: SearchSpace, place: str) -> tuple[Path, str]:
    """Returns the folder and the module's name of a file named relative to the space."""
    file = space.source.parent / place
    if not file.is_file():
        raise _error(space, f"there is no file {file}", FORM)
    return file.parent, file.stem


def _module(space: SearchSpace, name: str) -> tuple[Path, str]:
    """Returns the first folder next to the space or on Python's path that has a module's top-level package."""
    top = name.partition(".")[0]
    for folder in (space.source.parent, Path.cwd(), *map(Path, sys.path)):
        if ((folder / top).is_dir() and _source(folder, name)) or (folder / f"{top}.py").is_file():
            return folder, name
    rule = f"there is no module {name} next to the space or on Python's path"
    raise _error(space, rule, FORM)


def _source(root: Path, module: str) -> Path | None:
    stem = root.joinpath(*module.split("."))
    return next((file for file in (stem.with_suffix(".py"), stem / "__init__.py") if file.is_file()), None)


def _listed(space: SearchSpace, root: Path) -> Iterator[Path]:
    for pattern in space.sources:
        if Path(pattern).is_absolute() or ".." in Path(pattern).parts:
            raise space_error(space.source, "sources", f"must be within {root}", pattern, "Move the file there.")
        found = [file for file in root.glob(pattern) if file.is_file()]
        if not found:
            raise space_error(space.source, "sources", f"matches no file in {root}", pattern, "Correct it.")
        yield from found


def _contents(space: SearchSpace, root: Path, files: Iterable[Path]) -> dict[str, bytes]:
    try:
        found = {file.relative_to(root).as_posix(): file.read_bytes() for file in sorted(files)}
    except OSError as error:
        text = f"{error.filename} cannot be read: {error.strerror}"
        raise _error(space, text, "Check its permissions.") from None
    if (size := sum(map(len, found.values()))) > LARGEST:
        rule = f"its {len(found)} source files have {size:,} bytes, at most {LARGEST:,} travel to workers"
        raise _error(space, rule, "List the files that it needs as `sources`.")
    return found


# --- what it imports -------------------------------------------------------------------------------------------------


def _closure(space: SearchSpace, root: Path, first: Path) -> Iterator[Path]:
    """Yields a file and the files of a folder that it imports, and those import."""
    seen, waiting = {first}, [first]
    while waiting:
        file = waiting.pop()
        yield file
        for name in _imported(_parsed(space, file), file.relative_to(root).parent.parts):
            for found in _files_of(root, name):
                if found not in seen:
                    seen.add(found)
                    waiting.append(found)


def _imported(tree: ast.AST, package: Sequence[str]) -> Iterator[str]:
    """Yields the dotted names that may be modules."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield from (f"{base}.{alias.name}".lstrip(".") for alias in node.names)


def _files_of(root: Path, name: str) -> Iterator[Path]:
    """Yields the files that an import of a dotted name runs, as far as they are in a folder."""
    parts = name.split(".")
    for end in range(1, len(parts) + 1):
        if file := _source(root, ".".join(parts[:end])):
            yield file


def _check_defined(space: SearchSpace, file: Path, attribute: str) -> None:
    """Refuses a name that the module does not define, as far as that can be seen without running it."""
    names: set[str] = set()
    for node in _parsed(space, file).body:
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
        raise _error(space, f"{file} defines no {attribute}", todo)


def _parsed(space: SearchSpace, file: Path) -> ast.Module:
    try:
        return ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError) as error:
        line = f":{error.lineno}" if isinstance(error, SyntaxError) else ""
        text = f"{file}{line} cannot be parsed: {getattr(error, 'msg', None) or error}"
        raise _error(space, text, "Correct that file.") from None
