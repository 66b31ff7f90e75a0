"""Runs the folders of `examples/`, each from an empty folder to its verdict: `python -m benchmarks.examples`.

It rewrites their `verdict.md`. Numbers are the same bits on machines of one kind, and differ a little on others.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDERS = sorted(path.parent for path in (ROOT / "examples").glob("*/*.toml"))
VERDICT = "verdict.md"


def verdict(example: Path, folder: Path) -> str:
    """Trains an example in an empty folder and returns its comparison as Markdown.

    Raises:
        CalledProcessError: a script of the example or a command fails.
    """
    for file in example.iterdir():
        if file.suffix in (".py", ".toml"):
            shutil.copy(file, folder)
    for script in sorted(folder.glob("make_*.py")):  # writes the data
        _python(script.name, folder=folder)
    (space,) = folder.glob("*.toml")
    _python("-m", "lawn_tune", "launch", space.name, folder=folder)
    return _python("-m", "lawn_tune", "compare", space.stem, "--format", "md", folder=folder)


def _python(*words: str, folder: Path) -> str:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, *words]
    return subprocess.run(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout


def main() -> None:
    """Runs those that are named, or all."""
    for example in [path for path in FOLDERS if path.name in sys.argv[1:] or len(sys.argv) == 1]:
        began, file = time.monotonic(), example / VERDICT
        with tempfile.TemporaryDirectory() as folder:
            text = verdict(example, Path(folder))
        before = file.read_text() if file.exists() else ""
        file.write_text(text)
        same = "the same as before" if text == before else f"changed: git diff {file.relative_to(ROOT)}"
        print(f"{example.name}: {time.monotonic() - began:.0f} s, {VERDICT} is {same}", flush=True)


if __name__ == "__main__":
    main()
