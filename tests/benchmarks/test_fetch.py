"""Fetching from a server of this machine: mirrors, checksums, archives, no network; loaders never touch it."""

from __future__ import annotations

import hashlib
import http.server
import io
import socket
import threading
import zipfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from mrnn_search._registry import InputError, UnknownNameError
from mrnn_search.benchmarks import benchmarks, fetch
from mrnn_search.benchmarks.fetch import FetchError, data_set, target_folder
from mrnn_search.benchmarks.sources import SOURCES, Remote, Source

from ..real_data import real

DATA = b"digits" * 50_000


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Counts what was asked for."""

    asked: list[str] = []

    def log_message(self, *args: object) -> None:
        self.asked.append(self.path)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Address of a server of the folder ``served``."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    (tmp_path / "served").mkdir()
    Quiet.asked = []
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path / "served"))) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch) -> str:
    """An address where nobody answers."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}"


def source(monkeypatch: pytest.MonkeyPatch, *urls: str, sha: str = sha256(DATA), members: str | None = None) -> None:
    monkeypatch.setitem(SOURCES, "hand", Source("ten digits", ("write them yourself",), (Remote("digits", sha, urls, members),)))


class Counter:
    """A bar that adds up."""

    def __init__(self) -> None:
        self.total, self.done = 0, 0

    def update(self, amount: int) -> None:
        self.done += amount

    def reset(self) -> None:
        self.done = 0

    def close(self) -> None:
        pass


def test_a_file_comes_from_the_first_mirror_that_has_it(tmp_path: Path, server: str, nowhere: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "served" / "digits").write_bytes(DATA)
    (tmp_path / "served" / "wrong").write_bytes(DATA[:-1])
    source(monkeypatch, f"{nowhere}/digits", f"{server}/absent", f"{server}/wrong", f"{server}/digits")
    bar = Counter()
    assert fetch.fetch("hand", tmp_path / "to", bar) == [tmp_path / "to" / "digits"]
    assert (tmp_path / "to" / "digits").read_bytes() == DATA and bar.total == len(DATA)
    asked = len(Quiet.asked)
    fetch.fetch("hand", tmp_path / "to")
    assert len(Quiet.asked) == asked  # it is there
    (tmp_path / "to" / "digits").write_bytes(DATA[:100])
    fetch.fetch("hand", tmp_path / "to")
    assert (tmp_path / "to" / "digits").read_bytes() == DATA and [path.name for path in (tmp_path / "to").iterdir()] == ["digits"]


def test_a_wheel_is_unpacked_and_does_not_stay(tmp_path: Path, server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name in ("pack/data/a.tsv", "pack/data/b.tsv", "pack/code.py"):
            archive.writestr(name, name)
    (tmp_path / "served" / "pack.whl").write_bytes(packed.getvalue())
    source(monkeypatch, f"{server}/pack.whl", sha=sha256(packed.getvalue()), members="pack/data/*.tsv")
    assert sorted(fetch.fetch("hand", tmp_path / "to")) == [tmp_path / "to" / "a.tsv", tmp_path / "to" / "b.tsv"]
    assert sorted(path.name for path in (tmp_path / "to").iterdir()) == ["a.tsv", "b.tsv"]


def test_without_a_network_it_says_so(tmp_path: Path, nowhere: str, server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    source(monkeypatch, f"{nowhere}/digits")
    with pytest.raises(FetchError, match=r"ten digits: cannot fetch digits \(127.0.0.1:\d+: no connection\); .*or write them yourself"):
        fetch.fetch("hand", tmp_path / "to")
    (tmp_path / "served" / "digits").write_bytes(b"404")
    source(monkeypatch, f"{server}/digits", f"{server}/absent")
    with pytest.raises(FetchError, match=r"hash of downloaded file.*; 127.0.0.1:\d+: 404"):
        fetch.fetch("hand", tmp_path / "to")
    assert list((tmp_path / "to").iterdir()) == []
    source(monkeypatch, "pip:no/such/package==1")
    with pytest.raises(FetchError, match="pip:no/such/package"):
        fetch.fetch("hand", tmp_path / "to")
    (tmp_path / "file").touch()
    with pytest.raises(FetchError, match="cannot write ten digits"):
        fetch.fetch("hand", tmp_path / "file" / "below")


def test_names() -> None:
    assert data_set("mnist") == data_set("psmnist") == "mnist" and data_set("ucr:ECG5000") == data_set("ucr") == "ucr"
    with pytest.raises(InputError, match="benchmark copying has no data to fetch"):
        data_set("copying:100")
    with pytest.raises(UnknownNameError, match='did you mean "mnist"'):
        data_set("mnst")
    for name in (name for name, source in SOURCES.items() if source.remotes):
        kinds = [kind for kind in map(benchmarks.__getitem__, benchmarks) if kind.data_set == name]
        assert kinds, f"no benchmark reads {name}"


def test_it_goes_where_the_loader_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert target_folder("mnist") == tmp_path / "mrnn-search" / "mnist"
    monkeypatch.setenv("MRNN_SEARCH_DATA", str(tmp_path / "mine"))
    assert target_folder("mnist") == tmp_path / "mine" / "mnist"


def test_the_known_checksums_are_those_of_the_real_files() -> None:
    """Of MNIST's packed files only what is in them is here; the loader checks that."""
    for remote in SOURCES["mnist"].remotes:
        assert (real("mnist") / remote.file.removesuffix(".gz")).exists() and len(remote.sha256) == 64


def test_loading_never_touches_the_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refused(*args: object, **more: object) -> None:
        raise AssertionError("a loader wants the network")

    monkeypatch.setattr(socket.socket, "connect", refused)
    monkeypatch.setattr(socket, "getaddrinfo", refused)
    monkeypatch.setenv("MRNN_SEARCH_CACHE", str(tmp_path))
    for name, folder in {"ucr:Beef": "ucr", "japanese-vowels": "japanese-vowels", "mnist-rows": "mnist"}.items():
        assert benchmarks[name.partition(":")[0]].load_with(name.partition(":")[2] or None, real(folder)).sizes
    for name in ("adding", "copying", "digits-rows"):
        assert benchmarks[name].load(None).sizes
    for name in benchmarks:
        try:
            benchmarks[name].locate(None)
        except InputError:
            pass  # not there, and said so
