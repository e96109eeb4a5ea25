"""The README's snippets run, top to bottom, each language in one go; its YAML is valid; its table is what the program prints."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import mrnn_search as ms

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def snippets(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, flags=re.M | re.S)


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the README's YAML files and a small finished study of the name that it uses."""
    folder = tmp_path_factory.mktemp("readme")
    for text in snippets("yaml"):
        path = folder / text.splitlines()[0].removeprefix("# ")
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MRNN_SEARCH_RUNS", str(folder / "runs"))
        ms.search("smoke", name="quickstart", executor="in-process", budget={"trials": 3})
    return folder


def run(folder: Path, *command: str) -> str:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(command, cwd=folder, env={**os.environ, "PATH": path}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("number", range(len(snippets("python"))))
def test_python(workplace: Path, number: int) -> None:
    run(workplace, sys.executable, "-W", "error::FutureWarning", "-c", snippets("python")[number])


@pytest.mark.slow
def test_shell(workplace: Path) -> None:
    run(workplace, "bash", "-e", "-c", "\n".join(snippets("sh")))
    assert (workplace / "best_cell" / "cell.py").exists() and (workplace / "curves.parquet").stat().st_size > 0
    assert ms.load_study(workplace / "runs" / "mine").state == "complete"


def test_there_is_something_to_run() -> None:
    assert len(snippets("python")) >= 3 and len(snippets("sh")) >= 2 and len(snippets("yaml")) == 3


def test_its_spaces_are_valid(workplace: Path) -> None:
    from mrnn_search.search.space import load_space

    for path in (workplace / "search_spaces").glob("*.yaml"):
        assert load_space(str(path)).draw(50, 0)


def test_every_verb_option_and_name_in_it_exists() -> None:
    from mrnn_search.cells.presets import presets
    from mrnn_search.cli.app import app

    verbs = {command.callback.__name__ for command in app.registered_commands if command.callback}
    assert set(re.findall(r"^(?:\$ )?mrnn-search ([a-z]+) ", README, flags=re.M)) <= verbs
    assert set(re.findall(r'ms\.preset\("(\w+)"', README)) <= set(presets())


def test_the_shown_table_has_the_columns_of_this_version(fake_study: ms.Study, monkeypatch: pytest.MonkeyPatch) -> None:
    from typer.testing import CliRunner

    from mrnn_search.cli.app import app

    monkeypatch.setenv("MRNN_SEARCH_RUNS", str(fake_study.folder.parent))
    printed = CliRunner().invoke(app, ["leaderboard", "quickstart"]).stdout.splitlines()[0]
    (shown,) = [line for line in README.splitlines() if line.startswith("rank ")]
    assert shown.split() == printed.split()
    found = re.search(r"The best found cell, (.*), (beats|is worse than|cannot be told apart from) the tuned lstm", README)
    assert found and found[1] in README.split("rank ")[1]
