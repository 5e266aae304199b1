"""A file that is used again is as empty as a new one."""

from __future__ import annotations

import sqlite3

import pytest

from tests.simulation import chat_files
from tests.simulation.chat_files import Kind, put_away
from tests.simulation.history import History

MAKERS = {"device": chat_files.new_device_file, "log": chat_files.new_log}


def used(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> list[sqlite3.Connection]:
    """What some histories with chats leave."""
    monkeypatch.setattr(chat_files, "_spares", {"device": [], "log": []})
    for seed in range(4):
        History(seed, chats=True).run()
    return chat_files._spares[kind]


@pytest.mark.parametrize("kind", ["device", "log"])
def test_a_database_that_is_used_again_has_what_a_new_one_has(
    kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = used(kind, monkeypatch)
    had = [list(connection.iterdump()) for connection in left]
    again = [MAKERS[kind]() for _ in had]
    assert not left
    new = list(MAKERS[kind]().iterdump())
    assert all(len(rows) > len(new) for rows in had)
    assert [list(connection.iterdump()) for connection in again] == [new] * len(again)


def test_a_database_in_the_middle_of_a_transaction_is_not_used_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(chat_files, "_spares", {"device": [], "log": []})
    connection = chat_files.new_log()
    connection.execute("BEGIN")
    put_away("log", connection)
    assert chat_files.new_log() is not connection
