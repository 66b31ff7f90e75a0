"""The GPU's kernels compile for real GPUs, which the interpreter says nothing of; no GPU is needed for that."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.long

COMPILE = """
from itertools import product
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from trainables.catalogue.methods import RULES
from trainables.optimizers import gpu, gpu_kernels

TYPES = {"places": "*i32", "sizes": "*i64", "addresses": "*i64", "strides": "*i64", "radii": "*fp32", "sums": "*fp64",
         "squares": "*fp64", "layers": "i32", "blocks": "i32", "firsts": "*i32", "factors": "*fp64",
         "numbers": "*fp64", "steps": "*i64", "step_row": "i32", "step_layer": "i32", "result": "*fp64"}
NAMES = ["projection_sums", "layer_factors", "directions", "moves", "careful_sums", "careful_moves", "move", "total"]
ONES = [{}, {"layers": 1, "blocks": 1, "step_row": 1}]  # an argument that is 1 is a constant for Triton
WIDTHS = {"total": gpu.MANY}
for name in NAMES:
    kernel = getattr(gpu_kernels, name)
    codes = {row.kernel for row in RULES.values() if row.kernel is not None} if "RULE" in kernel.arg_names else {0}
    for code in codes:
        for ones, three in product(ONES, (False, True) if "THREE" in kernel.arg_names else (True,)):
            given = {"RULE": code, "BLOCK": gpu.BLOCK, "WIDTH": WIDTHS.get(name, gpu.WIDTH), "GROUP": gpu.GROUP}
            given |= {"THREE": three, **ones}
            constants = {x: given[x] for x in kernel.arg_names if x in given}
            signature = {x: "constexpr" if x in constants else TYPES[x] for x in kernel.arg_names}
            source = ASTSource(kernel, signature, constexprs=constants)
            made = triton.compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": gpu.WARPS})
            assert made.asm["cubin"]
            print(name)
"""


@pytest.mark.timeout(600)
def test_every_kernel_compiles_for_every_rule(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    result = subprocess.run([sys.executable, "-c", COMPILE], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert len(result.stdout.split()) == (7 + 1) * 3 * 2 + 2
