"""`make sanitize` passes kernels.c, and fails for each kind of mistake that it should detect."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "trainables" / "optimizers" / "kernels.c"

MISTAKES = {
    "one weight too many": ("i < x->n; i++)", "i <= x->n; i++)", "heap-buffer-overflow"),
    "last block too long": ("size = MIN(BLOCK, n - start);", "size = BLOCK;", "heap-buffer-overflow"),
    "one block too many": ("b * BLOCK < x->n", "b * BLOCK <= x->n", "heap-buffer-overflow"),
    "undefined arithmetic": ("squares[row] = 0;", "squares[row] = 0 * (row << 62 << (rows + 1));", "runtime error"),
    "scratch read before it is written": ("r[i] = sgd(", "r[i] += sgd(", "scratch buffers"),
    "result depends on threads": ("squares[row] = 0;", "squares[row] = threads;", "the number of threads"),
    "gradient written to": ("rr += direction", "((float *)g)[i] = 0, rr += direction", "a gradient was written to"),
}


def sanitize(kernels: Path, build: Path, seconds: float) -> subprocess.CompletedProcess[str]:
    command = ["make", "sanitize", f"KERNELS={kernels}", f"BUILD={build}", f"FUZZ_SECONDS={seconds}"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=150)


def test_the_kernels_are_clean(tmp_path: Path) -> None:
    found = sanitize(SOURCE, tmp_path, 2)
    assert found.returncode == 0, found.stderr
    assert "nothing found" in found.stdout


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_found(mistake: str, tmp_path: Path) -> None:
    right, wrong, message = MISTAKES[mistake]
    text = SOURCE.read_text()
    assert right in text, "the table of mistakes must follow kernels.c"
    mutant = tmp_path / "mutant.c"
    mutant.write_text(text.replace(right, wrong))
    found = sanitize(mutant, tmp_path, 20)
    assert found.returncode != 0
    assert message in found.stderr
    assert "repeat this case: fuzz_kernels 0 " in found.stderr
