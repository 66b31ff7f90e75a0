"""Kernels are compiled on request only, once per machine, in a folder that nobody else can write to."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest

from trainables.optimizers import native

pytestmark = pytest.mark.long

TRAIN = """
import torch
from trainables.optimizers import AdamLawn, fused
torch.manual_seed(0)
p = torch.nn.Parameter(torch.randn(30, 40))
optimizer = AdamLawn([p], lr=0.01, free_steps=2)
for _ in range(5):
    p.grad = torch.sin(7 * p.detach())
    optimizer.step()
print(fused.kernels() is not None, f"{float(p.detach().double().norm()):.4f}", f"{float(p.detach()[0, 0]):.5f}")
"""
ALONE = f"""
import importlib.util
spec = importlib.util.spec_from_file_location("native", {native.__file__!r})
native = importlib.util.module_from_spec(spec)
spec.loader.exec_module(native)
"""
"""`native` without torch, which takes seconds to import."""
FIND = f"{ALONE}\nprint(native.kernels() is not None)"
BUILD = f"""{ALONE}
print(native.kernels() is not None, end=" ")
print(native.build_kernels(lambda line: print(f"[{{line}}]", end=" ")), native.kernels() is not None)
"""
NO_PROGRAM = """
import sys
import torch
def watch(event, arguments):
    if event in ("subprocess.Popen", "os.system", "os.fork", "os.forkpty", "os.exec", "os.posix_spawn", "os.spawn"):
        raise SystemExit(f"{event} {arguments}")
sys.addaudithook(watch)
"""
NO_HOME = """
import os, pwd
del os.environ["HOME"]
def unknown(uid):
    raise KeyError(uid)
pwd.getpwuid = unknown
"""


@dataclass(frozen=True)
class Machine:
    """A separate cache, temporary folder and set of programs, like the machine of a new user."""

    folder: Path

    @property
    def cache(self) -> Path:
        return self.folder / "cache" / "lawn_tune"

    @property
    def temporary(self) -> Path:
        return self.folder / "tmp" / f"lawn-tune-{os.getuid()}"

    @property
    def compilations(self) -> int:
        """How often the compiler was called."""
        calls = self.folder / "calls"
        return len(calls.read_text().splitlines()) if calls.exists() else 0

    def set_compiler(self, script: str) -> None:
        compiler = self.folder / "bin" / "cc"
        compiler.write_text(f'#!/bin/sh\necho "$@" >> {self.folder}/calls\n{script}\n')
        compiler.chmod(0o755)

    def run(self, code: str, **variables: str) -> str:
        """Returns what a Python process prints."""
        own = {"XDG_CACHE_HOME": str(self.folder / "cache"), "TMPDIR": str(self.folder / "tmp"), "OMP_NUM_THREADS": "1"}
        path = {"PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}"}
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True, text=True, env=os.environ | own | path | variables, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A machine without kernels whose compiler counts its calls."""
    for name in ("tmp", "bin"):
        (tmp_path / name).mkdir()
    found = Machine(tmp_path)
    found.set_compiler('exec gcc "$@"' if Path("/usr/bin/gcc").exists() else 'exec /usr/bin/cc "$@"')
    return found


def built(folder: Path) -> list[Path]:
    return sorted(folder.glob("kernels-*.so"))


def test_a_public_class_compiles_nothing_and_leaves_nothing(machine: Machine) -> None:
    assert machine.run(TRAIN).split()[0] == "False"
    assert machine.compilations == 0
    assert not machine.cache.exists()
    assert not machine.temporary.exists()


def test_what_was_built_is_found_by_later_processes_which_start_no_program(machine: Machine) -> None:
    before, rest = machine.run(BUILD).split(maxsplit=1)
    assert before == "False"
    assert rest.startswith("[compiled the optimizer kernels for this machine in ")
    assert rest.endswith(" s] True True"), "visible in the process that built them"
    assert machine.run(NO_PROGRAM + TRAIN).split()[0] == "True"
    assert machine.run(NO_PROGRAM.replace("import torch", "") + BUILD) == "True True True", "nothing is left to do"
    assert machine.run(FIND, PATH="/nowhere") == "True", "kernels outlive the compiler"
    assert machine.compilations == 1


def test_without_kernels_the_numbers_are_the_same(machine: Machine) -> None:
    machine.run(BUILD)
    with_kernels = machine.run(TRAIN).split()
    assert with_kernels[0] == "True"
    assert machine.run(TRAIN, LAWN_TUNE_KERNELS="0").split() == ["False", *with_kernels[1:]], "built, and turned off"


def test_without_posix_there_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows does not say who may write to a folder."""
    monkeypatch.setattr(native, "kernels", native.kernels.__wrapped__)
    monkeypatch.setattr(native, "os", SimpleNamespace(name="nt", environ={}))
    lines: list[str] = []
    assert not native.build_kernels(lines.append)
    assert lines[0].endswith("no C compiler (cc, gcc, clang) on the PATH")


def test_one_line_gives_the_reason_for_missing_kernels(machine: Machine) -> None:
    elsewhere = {"XDG_CACHE_HOME": str(machine.folder / "other")}
    machine.set_compiler("echo warning >&2; echo 'fatal error: no such CPU' >&2; exit 1")
    for reason, variables in {
        "no C compiler (cc, gcc, clang) on the PATH": {"PATH": "/nowhere"},
        "cc: fatal error: no such CPU": {},
        "LAWN_TUNE_KERNELS=0": {"LAWN_TUNE_KERNELS": "0"},
    }.items():
        line = machine.run(BUILD, **(elsewhere | variables))
        assert line.startswith("False [no compiled optimizer kernels on this machine, ")
        assert line.endswith(f"{reason}] False False")


def test_processes_that_build_at_once_compile_once(machine: Machine) -> None:
    with ThreadPoolExecutor(3) as threads:
        found = list(threads.map(lambda _: machine.run(BUILD), range(3)))
    assert all(line.endswith(" True True") for line in found)
    assert sum("compiled" in line for line in found) == 1
    assert machine.compilations == 1
    assert [path.name for path in machine.cache.iterdir()] == [path.name for path in built(machine.cache)]


@pytest.mark.parametrize("umask", [0o000, 0o002, 0o022])
def test_nobody_else_can_write_what_is_executed(machine: Machine, umask: int) -> None:
    machine.run(f"import os; os.umask({umask})\n" + BUILD)
    (library,) = built(machine.cache)
    assert stat.S_IMODE(machine.cache.stat().st_mode) == 0o700
    assert stat.S_IMODE(library.stat().st_mode) == 0o700


def test_a_user_without_a_home_has_one_folder_among_the_temporary_files(machine: Machine) -> None:
    for _ in range(2):
        assert machine.run(NO_HOME + BUILD, XDG_CACHE_HOME="").endswith("True True")
    assert machine.compilations == 1
    assert len(built(machine.temporary)) == 1
    assert stat.S_IMODE(machine.temporary.stat().st_mode) == 0o700
    assert [path.name for path in (machine.folder / "tmp").iterdir()] == [machine.temporary.name]


def test_a_relative_home_is_not_a_folder_in_each_working_directory(machine: Machine) -> None:
    for name in ("one", "other"):
        (machine.folder / name).mkdir()
        inside = f"import os; os.chdir({str(machine.folder / name)!r})\n"
        assert machine.run(inside + BUILD, XDG_CACHE_HOME="", HOME=".").endswith("True True")
    assert machine.compilations == 1
    assert len(built(machine.temporary)) == 1


ROOT_ONLY = pytest.mark.skipif(os.getuid() != 0, reason="only root gives files away")
HARMS = ["others may write", "a link", pytest.param("another user's", marks=ROOT_ONLY)]


def harm_folder(folder: Path, harm: str) -> None:
    """Creates a folder that somebody else may have written to."""
    real = folder.with_name("elsewhere") if harm == "a link" else folder
    real.mkdir(parents=True)
    if harm == "a link":
        folder.symlink_to(real)
    if harm == "others may write":
        folder.chmod(0o777)
    if harm == "another user's":
        os.chown(folder, 12345, 12345)


@pytest.mark.parametrize("harm", HARMS)
def test_a_temporary_folder_of_somebody_else_is_rejected(machine: Machine, harm: str) -> None:
    harm_folder(machine.temporary, harm)
    line = machine.run(NO_HOME + BUILD, XDG_CACHE_HOME="")
    assert line.endswith(f"{machine.temporary} belongs to another user, or others can write to it] False False")
    assert not list(machine.temporary.iterdir())


def test_a_cache_that_others_can_write_to_is_not_trusted(machine: Machine) -> None:
    machine.run(BUILD)
    (library,) = built(machine.cache)
    machine.cache.chmod(0o777)
    assert machine.run(FIND) == "False", "what lies there may be anybody's"
    assert machine.run(BUILD).endswith("True True"), "the temporary folder serves"
    assert len(built(machine.temporary)) == 1
    assert built(machine.cache) == [library]


@pytest.mark.parametrize("harm", ["empty", "cut", "changed", "others may write", "a link"])
def test_a_damaged_library_is_not_loaded_and_is_built_again(machine: Machine, harm: str) -> None:
    machine.run(BUILD)
    (library,) = built(machine.cache)
    content = library.read_bytes()
    if harm == "others may write":
        library.chmod(0o777)
    elif harm == "a link":
        library.rename(library.with_name("real"))
        library.symlink_to("real")
    else:
        changed = bytes([*content[:3000], content[3000] ^ 1, *content[3001:]])
        library.write_bytes({"empty": b"", "cut": content[: len(content) // 2], "changed": changed}[harm])
    assert machine.run(FIND) == "False"
    assert machine.run(BUILD).endswith("True True")
    assert machine.run(FIND) == "True"
    assert machine.compilations == 2


def test_invalid_compiler_output_is_a_failure(machine: Machine) -> None:
    machine.set_compiler('while [ "$1" != -o ]; do shift; done; echo rubbish > "$2"')
    line = machine.run(BUILD)
    assert "cannot be loaded] False False" in line
    assert len(line.splitlines()) == 1
