"""Building the kernels: every instruction set, no compiler or a broken one, and what the cache folder ends up holding."""

import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mrnn_search.cells import CellSpec
from mrnn_search.engine.native import build
from mrnn_search.engine.native.build import ISA_FLAGS, BuildError, Native, best_isa
from mrnn_search.engine.recurrent import Recurrent

GXX = shutil.which("g++")
needs_gxx = pytest.mark.skipif(GXX is None, reason="there is no g++")
CASES = [("lstm", "adam"), ("gru", "plain"), ("rnn", "plain"), ("orthogonal", "heavy_ball")]


def python(code, **environment):
    """Another process: its last line, from JSON. None removes a variable."""
    told = {k: v for k, v in {**os.environ, "OMP_NUM_THREADS": "1", **environment}.items() if v is not None}
    return subprocess.Popen([sys.executable, "-c", code], env=told, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def answer(process):
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return json.loads(out.splitlines()[-1])


def worst():
    """For another process: what was loaded, and the largest gap to the reference in float64, of the largest entry."""
    torch.manual_seed(0)
    found, gaps, told = build.native(), [], []
    for base, rule in CASES:
        layer = Recurrent(CellSpec(base, rule), 5, 19, 2, init="torch")
        twin = Recurrent(layer.spec, 5, 19, 2, init="torch").double().reference()
        twin.load_state_dict(layer.state_dict())
        x = torch.randn(9, 3, 5)
        slopes = []
        for one, given in ((layer, x), (twin, x.double())):
            y = one(given)[0]
            slopes.append([y, *torch.autograd.grad(y.square().sum(), [one.weight_hh_l1 if base in ("lstm", "gru") else one.weight_ih_l1])])
        gaps += [float((a.double() - b).abs().max() / b.abs().max()) for a, b in zip(*slopes, strict=True)]
        told.append(layer.execution)
    print(json.dumps([found.isa if isinstance(found, Native) else found, max(gaps), told]))


WORST = "from tests.engine.native.test_build import worst; worst()"


@needs_gxx
@pytest.mark.parametrize("isa", ISA_FLAGS)
def test_every_instruction_set_is_right(isa, tmp_path):
    """1e-4: adam's division by a root of means multiplies float32's rounding by up to a thousand."""
    order = ["portable", "avx2", "avx512"]
    if order.index(isa) > order.index(best_isa()):
        pytest.skip("this processor does not have it")
    used, gap, told = answer(python(WORST, MRNN_SEARCH_ISA=isa, MRNN_SEARCH_CACHE=str(tmp_path)))
    assert used == isa and gap < 1e-4 and all(text.startswith("fused cpu") for text in told)
    assert [path.suffix for path in tmp_path.iterdir() if path.suffix != ".lock"] == [".so"]


@needs_gxx
@pytest.mark.skipif(platform.machine() != "x86_64", reason="not an x86-64 compiler")
def test_avx512_compiles(tmp_path):
    flags = [*build.FLAGS, *ISA_FLAGS["avx512"], "-fopenmp"]
    build._compile([GXX], flags, (), [build.HERE / name for name in build.SOURCES], tmp_path / "kernels.so")
    assert [path.name for path in tmp_path.iterdir()] == ["kernels.so"]


def test_without_a_compiler_layers_run_on_torchs_kernels_or_step_by_step(tmp_path):
    found, gap, told = answer(python(WORST, PATH="", CXX=None, MRNN_SEARCH_ISA=None, MRNN_SEARCH_CACHE=str(tmp_path)))
    assert "no C++ compiler" in found and gap < 1e-4
    assert [text.split(":")[0] for text in told] == ["loop", "vendor", "vendor", "loop"]
    assert all("no fused kernels: no C++ compiler" in text for text in told)


def compiler(folder, text):
    """A program in the compiler's place."""
    path = folder / "compiler"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Builds of this test have a folder of their own."""
    monkeypatch.setenv("MRNN_SEARCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("MRNN_SEARCH_ISA", "portable")
    monkeypatch.delenv("CXX", raising=False)
    return tmp_path


@pytest.fixture
def counted(here, monkeypatch):
    """g++ without its optimizer, which notes each call in a file."""
    log = here / "calls"
    script = f'echo "$@" >> {log}\nfor a; do shift; [ "$a" = -O3 ] && a=-O0; set -- "$@" "$a"; done\nexec {GXX} "$@"'
    monkeypatch.setenv("CXX", compiler(here, script))
    return log


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("/nonexistent/gcc", "/nonexistent/gcc does not run"),
        ("g++ 'unbalanced", "CXX = g\\+\\+ 'unbalanced: No closing quotation"),
        ("   ", "does not run"),
    ],
)
def test_a_compiler_that_is_not_there_is_named(here, monkeypatch, text, words):
    monkeypatch.setenv("CXX", text)
    with pytest.raises(BuildError, match=words):
        build._load()


def test_a_broken_compiler_says_its_first_line_in_whatever_encoding(here, monkeypatch):
    broken = compiler(here, '[ "$1" = --version ] && exec echo broken 1.0\nprintf "no \\377 such flag\\nmore\\n" >&2\nexit 3')
    monkeypatch.setenv("CXX", broken)
    with pytest.raises(BuildError, match="compiler failed: no . such flag$"):
        build._load()
    assert not [path for path in (here / "cache").iterdir() if path.suffix != ".lock"]


@needs_gxx
def test_a_library_that_does_not_load_is_a_reason_too(here, monkeypatch):
    monkeypatch.setenv("CXX", compiler(here, '[ "$1" = --version ] && exec echo 1.0\nfor a; do last=$a; done\necho 1.0 > "$last"'))
    with pytest.raises(BuildError, match="kernels-portable"):
        build._load()


@pytest.mark.parametrize(("isa", "words"), [("none", "turned off by MRNN_SEARCH_ISA=none"), ("sse9", "ISA = sse9, allowed: avx512, avx2")])
def test_instruction_sets_that_are_none(here, monkeypatch, isa, words):
    monkeypatch.setenv("MRNN_SEARCH_ISA", isa)
    with pytest.raises(BuildError, match=words):
        build._load()


@needs_gxx
def test_the_second_load_compiles_nothing(counted):
    first, calls = build._load(), counted.read_text()
    assert calls.count(" -c ") == len(build.SOURCES) and first.isa == "portable"
    build._load()
    assert counted.read_text() == calls


@needs_gxx
def test_a_cache_in_the_working_folder(counted, monkeypatch, tmp_path):
    """``.``: the loader searches elsewhere for a name without a slash."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MRNN_SEARCH_CACHE", ".")
    build._load()
    assert counted.read_text().count(" -c ") == len(build.SOURCES) and len(list(tmp_path.glob("*.so"))) == 1


def test_a_folder_that_cannot_be_made_or_no_home_at_all(here, monkeypatch):
    (here / "file").write_text("")
    monkeypatch.setenv("MRNN_SEARCH_CACHE", str(here / "file" / "below"))
    assert build._cache() == build._private()
    monkeypatch.delenv("MRNN_SEARCH_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)

    def home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", home)
    assert build._cache() == build._private() and build._private().stat().st_mode & 0o077 == 0


@needs_gxx
def test_processes_that_start_at_once_compile_once(counted):
    code = "import json; from mrnn_search.engine.native.build import native; print(json.dumps(native().library._name))"
    names = {answer(process) for process in [python(code) for _ in range(3)]}
    assert len(names) == 1 and counted.read_text().count(" -c ") == len(build.SOURCES)
    folder = Path(names.pop()).parent
    assert [path.suffix for path in folder.iterdir() if path.suffix != ".lock"] == [".so"]
