"""Which file a name means, and what is in it."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrnn_search import InputError
from mrnn_search.search import files
from mrnn_search.search.files import Place, names, parse_yaml, read_yaml, resolve

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A working folder that is not the checkout."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", ["quickstart", "quickstart.yaml", "trials/quickstart.yaml", "trials/quickstart"])
def test_what_is_shipped_is_found_from_every_folder(elsewhere, name):
    assert resolve("trials", name) == ROOT / "trials" / "quickstart.yaml"


@pytest.mark.parametrize("name", ["quickstart", "quickstart.yaml", "trials/quickstart.yaml"])
def test_the_working_folder_comes_first(elsewhere, name):
    (elsewhere / "trials").mkdir()
    (elsewhere / "trials" / "quickstart.yaml").write_text("a: 1")
    assert read_yaml(resolve("trials", name)) == {"a": 1}


def test_the_packaged_copy_comes_before_the_checkout(elsewhere, monkeypatch):
    (elsewhere / "package" / "_data" / "trials").mkdir(parents=True)
    packaged = elsewhere / "package" / "_data" / "trials" / "quickstart.yaml"
    packaged.write_text("a: 2")
    monkeypatch.setattr(files, "_PACKAGE", elsewhere / "package")
    assert resolve("trials", "trials/quickstart.yaml") == packaged
    assert names("trials") == ["quickstart"]


def test_a_path_is_that_file(elsewhere):
    (elsewhere / "mine.yml").write_text("a: 3")
    (elsewhere / "deep").mkdir()
    (elsewhere / "deep" / "quickstart.yaml").write_text("a: 4")
    assert read_yaml(resolve("trials", "mine.yml")) == {"a": 3}
    assert read_yaml(resolve("trials", "deep/quickstart.yaml")) == {"a": 4}
    assert read_yaml(resolve("trials", str(elsewhere / "mine.yml"))) == {"a": 3}


@pytest.mark.parametrize(
    "name", ["", ".", "..", "mine", "deep/quickstart.yaml", "/nowhere/quickstart.yaml", "../trials/x", "a\0b", "x" * 5000]
)
def test_not_found(elsewhere, name):
    with pytest.raises(InputError, match="there is no recipe .*looked for .*known: .*grid, .*quickstart, .*smoke"):
        resolve("trials", name)


def test_not_found_says_what_is_near_and_who_asked(elsewhere):
    with pytest.raises(InputError) as caught:
        resolve("search_spaces", "optimiser_cells.yaml", "a.yaml: space")
    message = str(caught.value)
    assert message.startswith(
        'a.yaml: space: there is no search space "optimiser_cells.yaml"; looked for search_spaces/optimiser_cells.yaml, '
    )
    assert message.endswith('did you mean "optimizer_cells"?')


def test_names_has_the_users_own(elsewhere):
    (elsewhere / "search_spaces").mkdir()
    for name in ("mine.yaml", "other.yml", "notes.txt", ".hidden.yaml", "smoke.yaml"):
        (elsewhere / "search_spaces" / name).write_text("")
    assert names("search_spaces") == ["mine", "optimizer_cells", "optimizers_everywhere", "other", "paper_cells", "sequence_cells", "smoke"]


def test_yaml_1_2(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_bytes(b"\xef\xbb\xbfa: 1e-3\r\nb: off\r\nc: 012\r\nd: ~\r\n")  # a byte-order mark and Windows' line ends
    assert read_yaml(path) == {"a": 1e-3, "b": "off", "c": 12, "d": None}


def test_unreadable(tmp_path, monkeypatch):
    path = tmp_path / "a.yaml"
    path.write_text("a: 1")

    def refuse(self):  # root may read everything, so the refusal is played
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))

    monkeypatch.setattr(type(path), "read_bytes", refuse)
    with pytest.raises(InputError, match=r"a\.yaml: cannot be read: Permission denied"):
        read_yaml(path)


def test_aliases_are_graphs():
    assert parse_yaml("a: &x [1]\nb: *x", "f") == {"a": [1], "b": [1]}
    loop = parse_yaml("a: &x [*x]", "f")
    assert loop["a"][0] is loop["a"]
    bomb = "a0: &a0 [1, 1]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 60))  # 2 ** 60 ones
    assert len(files.shown(parse_yaml(bomb, "f"))) < 1000


@given(st.text() | st.text("[]{}:,-&*!|>'\"%@#? \n\tab1.", max_size=40))
def test_any_text_is_read_or_refused(text):
    try:
        parse_yaml(text, "f.yaml")
    except InputError as error:
        assert str(error).startswith("f.yaml: ") and "\n" not in str(error)


@given(st.binary(max_size=60))
def test_any_file_is_read_or_refused(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("files") / "f.yaml"
    path.write_bytes(content)
    try:
        assert isinstance(read_yaml(path), dict)
    except InputError as error:
        assert "f.yaml: " in str(error) and "\n" not in str(error)


def test_place():
    place = Place("f.yaml", "", ("a.b",))
    assert str(place) == "f.yaml"
    assert str(place.at("x", 1, "y")) == "f.yaml: x[1].y"
    assert str(place.at("a", "b")) == str(place.at("a")) == "--set a.b"
    assert str(place.at("a", "b", 2)) == "--set a.b: a.b[2]"
    assert str(place.at("a", "bc")) == "f.yaml: a.bc"
