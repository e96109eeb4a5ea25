"""Checkpoint files: whole or not there."""

from __future__ import annotations

from pathlib import Path

from mrnn_search.search.checkpoints import Checkpoints


def test_save_load_drop(tmp_path: Path) -> None:
    store = Checkpoints(tmp_path / "checkpoints")
    assert store.load("search/1", 3) is None
    store.drop("search/1")  # nothing there: nothing to do
    for key, epoch in (("search/1", 1), ("search/1", 3), ("search/11", 3), ("lstm/1", 3)):
        store.save(key, epoch, f"{key} {epoch}".encode())
    assert store.load("search/1", 3) == b"search/1 3"
    store.drop("search/1", but=3)
    assert store.load("search/1", 1) is None and store.load("search/1", 3) is not None
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
    assert store.load("search/0", 1) == b"old"
    store.drop("search/0")
    assert list(tmp_path.iterdir()) == []
