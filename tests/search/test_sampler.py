"""Proposals: the same seed and history give the same candidate, in this process or the next."""

from __future__ import annotations

import pytest

from mrnn_search._registry import UnknownNameError
from mrnn_search.search.sampler import Proposer, make_sampler, samplers
from mrnn_search.search.space import load_space

SPACE = load_space("optimizer_cells")


def told(proposer: Proposer, n: int, start: int = 0) -> list[str]:
    """Ask n times; every trial is finished with a value that its learning rate gives, so that TPE has something to learn."""
    ids = []
    for number in range(start, start + n):
        proposal = proposer.propose(SPACE, seed=number)
        proposer._study.tell(number, proposal.candidate.lr)
        ids.append(proposal.candidate.candidate_id)
    return ids


@pytest.mark.parametrize("name", list(samplers))
def test_a_resumed_sampler_proposes_what_the_unbroken_one_does(name: str) -> None:
    whole = Proposer(name, "maximize", [])
    ids = told(whole, 20)
    first = Proposer(name, "maximize", [])
    told(first, 13)
    resumed = Proposer(name, "maximize", first._study.get_trials())
    assert told(resumed, 7, start=13) == ids[13:]


def test_tpe_learns() -> None:
    """Maximising the learning rate: proposals after 60 trials lie above what random search draws."""
    proposer = Proposer("tpe", "maximize", [])
    told(proposer, 60)
    late = [proposer.propose(SPACE, seed=1000 + n).candidate.lr for n in range(10)]
    uniform = [c.lr for c in SPACE.draw(200, seed=1)]
    assert sorted(late)[5] > sorted(uniform)[150]


def test_proposals_of_one_cohort_differ() -> None:
    proposer = Proposer("tpe", "maximize", [])
    told(proposer, 20)
    assert len({proposer.propose(SPACE, seed=100 + n).candidate.candidate_id for n in range(8)}) == 8


def test_an_unknown_sampler_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match='did you mean "tpe"'):
        make_sampler("tpee", 0)
