"""Checkpoint files: whole or not there."""

from __future__ import annotations

from pathlib import Path

from mrnn_search.search.checkpoints import Checkpoints, digest_of


def test_save_load_drop(tmp_path: Path) -> None:
    store = Checkpoints(tmp_path / "checkpoints")
    assert store.load("search/1", 3, digest_of(b"")) is None
    store.drop("search/1")  # nothing there: nothing to do
    for key, epoch in (("search/1", 1), ("search/1", 3), ("search/11", 3), ("lstm/1", 3)):
        store.save(key, epoch, f"{key} {epoch}".encode())
    at_3 = digest_of(b"search/1 3")
    assert store.load("search/1", 3, at_3) == b"search/1 3"
    store.drop("search/1", but=3)
    assert store.load("search/1", 1, digest_of(b"search/1 1")) is None and store.load("search/1", 3, at_3) is not None
    store.drop("search/1")
    assert sorted(path.name for path in store.folder.iterdir()) == ["lstm-1-epoch3.safetensors", "search-11-epoch3.safetensors"]


def test_a_half_written_file_is_never_seen(tmp_path: Path, monkeypatch) -> None:
    """Killed before the rename: the old state is still the state."""
    store = Checkpoints(tmp_path)
    store.save("search/0", 1, b"old")

    def die(self: Path, target: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", die)
    try:
        store.save("search/0", 1, b"new, but the process dies before it is whole")
    except KeyboardInterrupt:
        pass
    assert store.load("search/0", 1, digest_of(b"old")) == b"old"
    store.drop("search/0")
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_file_is_as_good_as_none(tmp_path: Path) -> None:
    store = Checkpoints(tmp_path)
    store.save("search/0", 1, b"whole")
    (tmp_path / "search-0-epoch1.safetensors").write_bytes(b"who")
    assert store.load("search/0", 1, digest_of(b"whole")) is None


def test_other_groups_leftovers_go(tmp_path: Path) -> None:
    store = Checkpoints(tmp_path)
    for key in ("search/0", "lstm/3", "confirmation/1"):
        store.save(key, 1, b"x")
    (tmp_path / "search-9-epoch1.tmp").write_bytes(b"half")
    store.keep_only("confirmation")
    assert [path.name for path in tmp_path.iterdir()] == ["confirmation-1-epoch1.safetensors"]
