"""What becomes of freed memory, in a process of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest

from mrnn_search.engine.heap import _glibc

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
