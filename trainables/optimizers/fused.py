"""`rules.step` in place and in fewer passes over memory: kernels.c, compiled once a machine where it has a C compiler.

At 20 million weights the operations of a constrained step pass over memory some fifty times, and compiling them by
`torch.compile` takes 20 s and still leaves most passes (docs/performance.md); the kernels pass three times.
"""

from __future__ import annotations

import ctypes
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trainables.optimizers import rules
from trainables.optimizers.layers import Layer

SOURCE = Path(__file__).with_name("kernels.c")
FLAGS = ("-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-fopenmp", "-fPIC", "-shared")
SWITCH = "LAWN_TUNE_KERNELS"
"""Environment variable: 0 takes `rules.step` everywhere."""

CODES: Mapping[str, int] = {"sgd": 0, "adam": 1, "lamb": 2}
BLOCK = 4096
"""Weights a block of kernels.c; sums need three doubles for each."""

HYPER = ("weight_decay", "momentum", "beta1", "beta2", "eps")
"""Order of a row's hyperparameters in kernels.c, after lr and before the two bias corrections."""

_room = threading.local()
_log = logging.getLogger(__name__)


def usable(*tensors: Tensor) -> bool:
    """True if the kernels can take these tensors: contiguous fp32 on a CPU, and there is a compiler."""
    fits = all(x.dtype == torch.float32 and x.device.type == "cpu" and x.is_contiguous() for x in tensors)
    return fits and kernels() is not None


def step(
    rule: str,
    w: Tensor,
    gradients: Sequence[Tensor],
    state: rules.State,
    *,
    lr: rules.Number,
    t: int | Tensor,
    hyper: rules.Hyper,
    layers: Sequence[Layer],
    radii: Tensor | None = None,
) -> Tensor:
    """Makes one step in place; equal to `rules.step` up to rounding.

    Args:
        rule, lr, t, hyper, layers: as for `rules.step`.
        w: weights [R, P], contiguous fp32 on a CPU, as is all below; changed.
        gradients: one a layer, each with R times the layer's weights.
        state: the rule's slots, each [R, P]; changed.
        radii: c of each layer where LAWN holds it and 0 elsewhere, [R, L]; None holds nothing.

    Returns:
        The squared norm of each row's gradient, float64 [R].

    Raises:
        ValueError: as `rules.step`, or weight decay in a constrained step.
    """
    rules.check(rule, hyper, w, layers)
    if radii is None:
        radii = torch.zeros(len(w), len(layers))
    elif "weight_decay" in hyper and bool((radii > 0).any()):
        raise ValueError("LAWN uses no weight decay anywhere: leave weight_decay out of hyper in a constrained step")
    gradients = [gradient.contiguous() for gradient in gradients]
    numbers, ends = _numbers(len(w), lr, t, hyper), torch.tensor([layer.stop for layer in layers])
    largest = max(layer.stop - layer.start for layer in layers)
    slots = [state[slot] for slot in rules.RULES[rule].slots]
    squares = torch.empty(len(w), dtype=torch.float64)
    pointers = (ctypes.c_void_p * len(layers))(*(gradient.data_ptr() for gradient in gradients))
    held = radii.contiguous()  # a name of its own: a temporary would be freed before the call
    _library().lawn_tune_step(
        CODES[rule], len(w), len(layers), _at(ends), _at(w), _at(slots[0]), _at(slots[-1]), pointers, _at(numbers),
        _at(held), *map(_at, _scratch(largest)), _at(squares), torch.get_num_threads(),
    )  # fmt: skip
    for changed in (w, *slots):
        torch.autograd.graph.increment_version(changed)  # as an in-place operation would, so that autograd notices
    return squares


def _numbers(rows: int, lr: rules.Number, t: int | Tensor, hyper: rules.Hyper) -> Tensor:
    """One row of numbers a row of weights, as the struct of kernels.c has them; float64 [R, 8]."""
    beta1, beta2 = hyper.get("beta1", 0.0), hyper.get("beta2", 0.0)
    values = (lr, *(hyper.get(name, 0.0) for name in HYPER), 1 / (1 - beta1**t), 1 / (1 - beta2**t))
    if not any(isinstance(value, Tensor) for value in values):
        return torch.tensor([values] * rows, dtype=torch.float64)
    return torch.cat([torch.as_tensor(x, dtype=torch.float64).reshape(-1, 1).expand(rows, 1) for x in values], dim=1)


def _scratch(largest: int) -> tuple[Tensor, Tensor]:
    """Room for the direction of the largest layer and the sums of its blocks, kept by each thread."""
    room = getattr(_room, "tensors", None)
    if room is None or len(room[0]) < largest:
        room = torch.empty(largest), torch.empty(largest // BLOCK + 1, 3, dtype=torch.float64)
        _room.tensors = room
    return room[0], room[1]


def _at(tensor: Tensor) -> ctypes.c_void_p:
    return ctypes.c_void_p(tensor.data_ptr())


# --- building ---------------------------------------------------------------------------------------------------------


def _library() -> Any:
    library = kernels()
    if library is None:
        raise RuntimeError("there are no compiled kernels on this machine; ask `usable` first")
    return library


@cache
def kernels() -> ctypes.CDLL | None:
    """Returns the compiled kernels, building them if this machine has not yet; None where that is impossible."""
    if os.environ.get(SWITCH) == "0":
        return None
    try:
        library = ctypes.CDLL(str(_built()))
    except (OSError, subprocess.SubprocessError) as error:
        _log.info("no compiled optimizer kernels, taking torch operations: %s", error)
        return None
    size, pointer = ctypes.c_int64, ctypes.c_void_p
    library.lawn_tune_step.argtypes = [ctypes.c_int, size, size, *[pointer] * 10, ctypes.c_int]
    library.lawn_tune_step.restype = None
    return library


def _built() -> Path:
    """Returns the shared library for this source, compiler and CPU, compiling it at most once for each."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise FileNotFoundError("no C compiler (cc, gcc, clang) on the PATH")
    asked = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=True, timeout=60)
    identity = "\n".join([SOURCE.read_text(), *FLAGS, compiler, asked.stdout, _cpu()])
    folder = _cache_folder()
    path = folder / f"kernels-{hashlib.sha256(identity.encode()).hexdigest()[:16]}.so"
    if not path.exists():
        with tempfile.TemporaryDirectory(dir=folder) as draft:
            target = Path(draft) / path.name
            command = [compiler, *FLAGS, "-o", str(target), str(SOURCE), "-lm"]
            subprocess.run(command, capture_output=True, check=True, timeout=120)
            target.replace(path)  # whole or not at all, whoever else builds it now
    return path


def _cpu() -> str:
    """What -march=native depends on: a home folder may be shared by machines of several kinds."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() + platform.node()
    return "\n".join(sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))}))


def _cache_folder() -> Path:
    """A folder of this user's own, as what lies in it is executed."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lawn_tune"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if folder.stat().st_uid == os.getuid() and not folder.stat().st_mode & 0o022:
            return folder
    except (OSError, RuntimeError):
        pass
    return Path(tempfile.mkdtemp(prefix="lawn-tune-kernels-"))
