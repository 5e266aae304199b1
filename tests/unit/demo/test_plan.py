"""A seed decides who loses the network and who is killed, and when."""

from __future__ import annotations

import pytest

from collab.demo.plan import WINDOWS, Act, make_plan

TOTALS = {"A": 6000, "B": 3000}


def test_a_seed_gives_the_same_plan_every_time_and_another_seed_another() -> None:
    assert make_plan(7, TOTALS) == make_plan(7, TOTALS)
    assert make_plan(7, TOTALS) != make_plan(8, TOTALS)


@pytest.mark.parametrize("seed", range(50))
def test_every_window_ends_and_one_client_and_the_relay_are_killed(seed: int) -> None:
    plan = make_plan(seed, TOTALS)
    kills = []
    for client, moments in plan.items():
        links = [moment.act for moment in moments if moment.act in (Act.CUT, Act.HEAL)]
        assert links == [Act.CUT, Act.HEAL] * WINDOWS
        assert moments == sorted(moments, key=lambda moment: moment.edits)
        assert all(0 < moment.edits < TOTALS[client] for moment in moments)
        kills += [moment.act for moment in moments if moment.act not in (Act.CUT, Act.HEAL)]
    assert sorted(kill.name for kill in kills) == ["KILL", "KILL_RELAY"]


def test_over_many_seeds_either_client_is_killed_online_and_offline() -> None:
    seen = set()
    for seed in range(100):
        for client, moments in make_plan(seed, TOTALS).items():
            linked = True
            for moment in moments:
                if moment.act is Act.KILL:
                    seen.add((client, linked))
                elif moment.act in (Act.CUT, Act.HEAL):
                    linked = moment.act is Act.HEAL
    assert seen == {("A", True), ("A", False), ("B", True), ("B", False)}
