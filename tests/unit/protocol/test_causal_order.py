from __future__ import annotations

import random

import pytest

from collab.errors import BadUpdate
from collab.protocol.causal_order import check_order


def test_clients_that_take_turns_are_in_order() -> None:
    turns = [
        (a, i * 2 + a, b, i * 2 + b - 2 * (1 - a))
        for i in range(1, 100)
        for a, b in [(0, 1), (1, 0)]
    ]
    check_order(sorted(turns))


def test_two_structs_that_wait_for_each_other_are_refused() -> None:
    with pytest.raises(BadUpdate, match="client 1 wait"):
        check_order([(1, 0, 2, 5), (2, 5, 1, 3)])


def test_a_circle_through_a_clients_own_order_is_refused() -> None:
    with pytest.raises(BadUpdate, match="circle"):
        check_order([(1, 4, 2, 8), (2, 2, 3, 0), (3, 0, 1, 9)])


def test_a_long_chain_of_clients_takes_no_recursion() -> None:
    check_order([(client, 0, client + 1, 0) for client in range(50_000)])


def test_any_real_order_passes_and_its_reversal_does_not() -> None:
    for seed in range(50):
        rng = random.Random(seed)
        clocks = dict.fromkeys(range(5), 0)
        references = []
        for _ in range(200):
            client, other = rng.sample(range(5), 2)
            if clocks[other]:
                references.append((client, clocks[client], other, rng.randrange(clocks[other])))
            clocks[client] += 1
        check_order(sorted(references))
        client, clock, other, other_clock = references[-1]
        with pytest.raises(BadUpdate):
            check_order(sorted([*references, (other, other_clock, client, clock)]))
