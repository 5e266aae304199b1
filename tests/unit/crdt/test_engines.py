"""Which engine a device runs, and what it says where there is none."""

from __future__ import annotations

import sys

import pytest

import collab
from collab.crdt.engines import check_engine, make_replica
from collab.errors import Unsupported


def test_an_unknown_engine_is_refused_with_those_that_exist() -> None:
    with pytest.raises(Unsupported, match="'pycrdt' or 'y-py'"):
        check_engine("automerge")


def test_the_default_engine_needs_nothing_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "y_py", None)
    check_engine("pycrdt")


def test_without_ypy_one_is_told_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 12, 0))
    monkeypatch.setitem(sys.modules, "y_py", None)
    with pytest.raises(Unsupported, match=r"3\.12\) with: pip install 'collab-sync\[y-py\]'"):
        collab.open(":memory:", engine="y-py")
    with pytest.raises(Unsupported, match="not installed"):
        make_replica(1, engine="y-py", call_soon=print, on_local=print)


def test_where_ypy_does_not_exist_one_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    class Version(tuple[int, ...]):
        major, minor = 3, 13

    monkeypatch.setattr(sys, "version_info", Version((3, 13, 0)))
    with pytest.raises(Unsupported, match=r"Python 3\.11 and 3\.12 alone, and this is 3\.13"):
        collab.open(":memory:", engine="y-py")
