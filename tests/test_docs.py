"""The snippets of docs/*.md run, its YAML is valid, and what it names exists."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from mrnn_search.cells.rules import rules
from mrnn_search.search.files import parse_yaml
from mrnn_search.search.recipe import Recipe, load_recipe
from mrnn_search.search.space import Space, load_space
from mrnn_search.search.suite import SuiteRecipe, load_recipes

PAGES = sorted((Path(__file__).parents[1] / "docs").glob("*.md"))


def snippets(language: str) -> list[tuple[str, str]]:
    """(page and number, text)."""
    out = []
    for page in PAGES:
        found = re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(encoding="utf-8"), flags=re.M | re.S)
        out += [(f"{page.stem}-{number}", text) for number, text in enumerate(found, start=1)]
    return out


@pytest.mark.parametrize(("name", "text"), snippets("python"), ids=[name for name, _ in snippets("python")])
def test_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str) -> None:
    monkeypatch.setenv("MRNN_SEARCH_RUNS", str(tmp_path / "runs"))
    done = subprocess.run([sys.executable, "-c", text], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    if "rules.register" not in text:
        return
    own = text[text.index("@ms.rules.register") : text.index("parameters =")].strip().splitlines()
    assert len(own) < 30  # a rule is less than 30 lines
    assert "soft_sign(" in done.stdout and (tmp_path / "soft_sign_cell" / "cell.py").exists()
    command = [sys.executable, "-m", "mrnn_search", "leaderboard", "own-rule", "--format", "csv"]
    other = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)  # never registered it
    assert other.returncode == 0 and "soft_sign(" in other.stdout, other.stderr


@pytest.mark.parametrize(("name", "text"), snippets("yaml"), ids=[name for name, _ in snippets("yaml")])
def test_yaml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str) -> None:
    """A space, a recipe, or a part of one, put into the quickstart's."""
    monkeypatch.setattr(rules, "_members", dict(rules._members))  # what the space defines ends with the test
    data = parse_yaml(text, name)
    path = tmp_path / f"{name}.yaml"
    path.write_text(text, encoding="utf-8")
    if "benchmarks" in data:
        suite = load_recipes(str(path), {})
        assert isinstance(suite, SuiteRecipe) and [member.benchmark for member in suite.members] == data["benchmarks"]
        return
    if "parameters" not in data:
        recipe = load_recipe(str(path)) if "benchmark" in data else load_recipe("quickstart", data)
        assert Recipe.from_dict(recipe.to_dict()) == recipe
        return
    space = load_space(str(path))
    assert space.draw(20, 0)
    assert Space.from_dict(space.to_dict()) == space


def test_every_rule_is_in_the_table() -> None:
    text = (Path(__file__).parents[1] / "docs" / "cells.md").read_text(encoding="utf-8")
    own = {rule for rule in rules if rules[rule].__module__.startswith("mrnn_search.")}
    assert own == set(re.findall(r"^\| `(\w+)` \| `?[a-z]", text, flags=re.M)) & own


def test_there_is_something_to_run() -> None:
    assert len(snippets("python")) >= 4 and len(snippets("yaml")) >= 1
