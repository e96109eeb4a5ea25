"""A benchmark of a user's own package: the one of docs/benchmarks.md, known by its entry point."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "benchmarks.md"


@pytest.fixture
def installed(tmp_path: Path) -> dict[str, str]:
    """Environment of a process for which ``my_package`` is installed, as pip would do it."""
    text = PAGE.read_text(encoding="utf-8")
    code = next(code for code in re.findall(r"^```python\n(.*?)^```$", text, flags=re.M | re.S) if 'register("parity")' in code)
    points = tomllib.loads(re.findall(r"^```toml\n(.*?)^```$", text, flags=re.M | re.S)[0])["project"]["entry-points"]
    (tmp_path / "my_package").mkdir()
    (tmp_path / "my_package" / "__init__.py").touch()
    (tmp_path / "my_package" / "parity.py").write_text(code[: code.index("\n\nassert")], encoding="utf-8")
    info = tmp_path / "my_package-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-package\nVersion: 1.0\n", encoding="utf-8")
    lines = [f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in members.items()) for group, members in points.items()]
    (info / "entry_points.txt").write_text("".join(lines), encoding="utf-8")
    return os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(PAGE.parents[1])])}


def test_every_verb_knows_it(installed: dict[str, str], tmp_path: Path) -> None:
    def call(*words: str) -> str:
        command = [sys.executable, "-m", "mrnn_search", *words, "--json"]
        return subprocess.run(command, cwd=tmp_path, env=installed, capture_output=True, text=True, check=True).stdout

    row = next(row for row in json.loads(call("benchmarks")) if row["name"] == "parity")
    assert row["found"] and row["data"] == "train 2,000, validation 500, test 500"
    assert json.loads(call("check", "smoke", "--set", "benchmark=parity"))["benchmark"] == "parity"
