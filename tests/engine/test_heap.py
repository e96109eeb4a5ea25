"""What becomes of freed memory, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mrnn_search.engine.heap import _glibc, huge_pages, starting

SCRIPT = """
import resource, torch
from mrnn_search.engine.heap import give_back_freed, keep_freed

def faults(times=5):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(times):
        parts = [torch.ones(2**21) for _ in range(12)]  # 96 MiB
        del parts
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096 / 2**20

def numbers():
    empty = resident()
    usual = faults()
    assert keep_freed()
    faults(1)
    kept, held = faults(), resident() - empty
    give_back_freed()
    given = resident() - empty
    assert keep_freed(False)
    return usual, kept, faults(), held, given

print(*numbers())
"""


@pytest.mark.skipif(_glibc() is None, reason="not glibc")
def test_freed_memory_is_kept_until_it_is_given_back() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    usual, kept, usual_again, held, given = map(float, done.stdout.split())
    assert held > 60 and given < 10  # MiB
    assert kept < usual / 10 and kept < usual_again / 10


FAULTS = """
import resource, torch
torch.ones(2**24)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
torch.ones(2**24)  # 64 MiB: more than is kept
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not Path("/sys/kernel/mm/transparent_hugepage/enabled").exists(), reason="this system has no transparent huge pages")
def test_what_is_too_large_to_be_kept_comes_in_huge_pages() -> None:
    if "[never]" in Path("/sys/kernel/mm/transparent_hugepage/enabled").read_text():
        pytest.skip("transparent huge pages are off")
    faults = []
    for environment in ({"GLIBC_TUNABLES": "glibc.malloc.hugetlb=0"}, huge_pages()):
        with starting(environment):
            faults.append(int(subprocess.run([sys.executable, "-c", FAULTS], check=True, capture_output=True, text=True).stdout))
    assert faults[1] * 10 < faults[0]  # its ends, which are less than a huge page, come in small ones


def test_what_the_user_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.arena_max=2")
    assert huge_pages()["GLIBC_TUNABLES"] == "glibc.malloc.arena_max=2:glibc.malloc.hugetlb=1"
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.hugetlb=0")
    assert huge_pages()["GLIBC_TUNABLES"] == "glibc.malloc.hugetlb=0"
    with starting({"GLIBC_TUNABLES": "a", "MRNN_NEW": "b"}):
        assert (os.environ["GLIBC_TUNABLES"], os.environ["MRNN_NEW"]) == ("a", "b")
    assert os.environ["GLIBC_TUNABLES"] == "glibc.malloc.hugetlb=0" and "MRNN_NEW" not in os.environ
