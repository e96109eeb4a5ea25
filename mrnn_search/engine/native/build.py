"""Builds the kernels of this folder with the machine's own C++ compiler, once, and loads them.

Plain C++17 behind a C interface, no torch headers: a few seconds to build, and no tie to a version of torch. The result is
kept in ``$MRNN_SEARCH_CACHE`` or the user's cache folder, under a name made of the sources, the compiler and the processor.

``MRNN_SEARCH_ISA`` = "avx512", "avx2" or "portable" asks for another instruction set than the best one;
"none" turns the kernels off.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
from filelock import FileLock  # torch itself depends on it

from ..folders import cache_folder

HERE = Path(__file__).parent
SOURCES = ("recurrence.cpp", "rule.cpp")
ISA_FLAGS = {"avx512": ("-mavx512f", "-mavx512vl", "-mavx512dq", "-mavx512bw", "-mfma"), "avx2": ("-mavx2", "-mfma"), "portable": ()}
# No -ffast-math: NaN must stay NaN, and the exponential rounds by adding and subtracting a large number.
FLAGS = ("-std=c++17", "-O3", "-fPIC", "-shared", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast", "-Wno-psabi")
BUILD_SECONDS = 120


@dataclass(frozen=True)
class Native:
    """The loaded kernels: ``isa`` they were compiled for, and ``openmp``: with threads."""

    library: ctypes.CDLL
    isa: str
    openmp: bool


class BuildError(RuntimeError):
    """Why there are no kernels."""


def native() -> Native | str:
    """The kernels, or why there are none. Built at the first call of a machine, loaded at the first of a process."""
    return _native()


native._dynamo_marked_constant = True  # type: ignore[attr-defined]  # torch.compiler.assume_constant_result, without its imports


@functools.cache
def _native() -> Native | str:
    try:
        return _load()
    except (BuildError, OSError) as error:
        return str(error)


def best_isa() -> str:
    """The widest instruction set that this processor has and that there is a kernel for."""
    return {"AVX512": "avx512", "AVX2": "avx2"}.get(torch.backends.cpu.get_cpu_capability(), "portable")


def _load() -> Native:
    isa = os.environ.get("MRNN_SEARCH_ISA") or best_isa()
    if isa == "none":
        raise BuildError("turned off by MRNN_SEARCH_ISA=none")
    if isa not in ISA_FLAGS:
        raise BuildError(f"MRNN_SEARCH_ISA = {isa}, allowed: {', '.join(ISA_FLAGS)}, none")
    compiler = _compiler()
    problem = "no compiler"
    # Threads come from the OpenMP runtime that torch has loaded, where that can be: two pools would fight for the cores.
    for openmp, link in ((True, ()), (True, ("-fopenmp",)), (False, ())):
        try:
            path = _built(compiler, isa, openmp, link)
            return Native(ctypes.CDLL(str(path.absolute())), isa, openmp)
        except (BuildError, OSError) as error:
            problem = str(error)
    raise BuildError(problem)


def _compiler() -> list[str]:
    named = os.environ.get("CXX")
    if named:
        try:
            return shlex.split(named)
        except ValueError as error:
            raise BuildError(f"CXX = {named}: {error}") from None
    for name in ("g++", "clang++", "c++"):
        if found := shutil.which(name):
            return [found]
    raise BuildError("no C++ compiler (g++ or clang++) was found")


@functools.cache
def _version(compiler: tuple[str, ...]) -> str:
    try:
        command = [*compiler, "--version"]
        return subprocess.run(command, capture_output=True, text=True, errors="replace", check=True, timeout=BUILD_SECONDS).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise BuildError(f"{shlex.join(compiler)} does not run: {error}") from None


def _built(compiler: list[str], isa: str, openmp: bool, link: tuple[str, ...]) -> Path:
    """The shared library, from the cache or from the compiler."""
    files = sorted([*HERE.glob("*.h"), *(HERE / name for name in SOURCES)])
    flags = [*FLAGS, *ISA_FLAGS[isa], *(["-fopenmp"] if openmp else [])]
    told = [_version(tuple(compiler)), platform.machine(), *flags, *link]
    key = hashlib.sha256("\0".join(told).encode() + b"".join(f.read_bytes() for f in files)).hexdigest()[:20]
    folder = _cache()
    path = folder / f"kernels-{isa}-{key}.so"
    if path.exists():
        return path
    with FileLock(folder / f"{key}.lock"):  # several workers start at once: one compiles
        if not path.exists():
            _compile(compiler, flags, link, [f for f in files if f.suffix == ".cpp"], path)
    return path


def _compile(compiler: list[str], flags: list[str], link: tuple[str, ...], sources: list[Path], path: Path) -> None:
    objects = path.with_suffix(f".{os.getpid()}.tmp")
    try:
        if "-fopenmp" in flags and not link:  # compile and link apart: -fopenmp while linking would bring a second runtime
            parts = [objects.with_suffix(f".{n}.o") for n in range(len(sources))]
            try:
                for source, part in zip(sources, parts, strict=True):
                    _run([*compiler, *(f for f in flags if f != "-shared"), "-c", str(source), "-o", str(part)])
                _run([*compiler, "-shared", *map(str, parts), "-o", str(objects)])
            finally:
                for part in parts:
                    part.unlink(missing_ok=True)
        else:
            _run([*compiler, *flags, *map(str, sources), *link, "-o", str(objects)])
        objects.replace(path)
    finally:
        objects.unlink(missing_ok=True)


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=BUILD_SECONDS)
    except (OSError, subprocess.SubprocessError) as error:
        raise BuildError(f"{command[0]} does not run: {error}") from None
    if done.returncode:
        raise BuildError(f"{command[0]} failed: {(done.stderr.strip() or 'no message').splitlines()[0]}")


def _cache() -> Path:
    """A folder of the user's own; where none can be written, one for this process."""
    try:
        folder = cache_folder()
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if os.access(folder, os.W_OK):
            return folder
    except (OSError, RuntimeError):  # RuntimeError: there is no home
        pass
    return _private()


@functools.cache
def _private() -> Path:
    return Path(tempfile.mkdtemp(prefix="mrnn-search-"))
