"""What every test shares."""

from __future__ import annotations

import getpass
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import settings

import mrnn_search as ms
from mrnn_search.search.executors import executors

from .inprocess import InProcess, fake
from .postgresql import serve

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # before anything imports triton, which reads it once

# Tests have homes of their own: without this each would build the kernels again.
os.environ.setdefault("MRNN_SEARCH_CACHE", str(Path(tempfile.gettempdir()) / f"mrnn-search-kernels-{getpass.getuser()}"))

torch.set_num_threads(1)  # tests run side by side, and train beside their own workers

# A loaded machine is no failure: no test here asserts a time. Derandomised: a red run can be repeated.
settings.register_profile("mrnn", deadline=None, derandomize=True)
settings.load_profile("mrnn")

executors.register("fake")(lambda resources: InProcess(train=fake))  # a whole study in a second; its values mean nothing
executors.register("in-process")(lambda resources: InProcess())


@pytest.fixture(autouse=True)
def no_settings_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """A developer's own folders are neither read nor written by a test."""
    for name in ("MRNN_SEARCH_RUNS", "MRNN_SEARCH_DATA", "MRNN_SEARCH_DEBUG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(Path(tempfile.gettempdir()) / "mrnn-search-no-data"))


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """URL of a real PostgreSQL server, with a password in it."""
    yield from serve()


def _runs(folder: Path) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MRNN_SEARCH_RUNS", str(folder))
        yield folder


@pytest.fixture(scope="session")
def fake_study(tmp_path_factory: pytest.TempPathFactory) -> ms.Study:
    """A finished study of the full space whose training was pretended: every table is full, no weights."""
    for _ in _runs(tmp_path_factory.mktemp("fake") / "runs"):
        study = ms.search("quickstart", executor="fake", command="mrnn-search run quickstart")
        shutil.rmtree(study.folder / "checkpoints")  # what the pretended training left there are no weights
        return study
    raise AssertionError


@pytest.fixture(scope="session")
def real_study(tmp_path_factory: pytest.TempPathFactory) -> ms.Study:
    """A finished study that really trained: tiny cells on the real digits."""
    for _ in _runs(tmp_path_factory.mktemp("real") / "runs"):
        return ms.search("smoke", executor="in-process", budget={"trials": 3}, confirmation={"epochs": 3})
    raise AssertionError
