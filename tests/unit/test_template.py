"""A template is refused where it is made, not where a room would be spoilt by it."""

from __future__ import annotations

import hashlib
from typing import Any

import pycrdt
import pytest

from collab import limits
from collab.errors import LocalError, TooLarge
from collab.template import Template


def digest(update: bytes) -> str:
    return hashlib.sha256(update).hexdigest()


def built(text: str = "# Minutes\n", client_id: int = 7) -> bytes:
    document: pycrdt.Doc[Any] = pycrdt.Doc(client_id=client_id)
    document.get("body", type=pycrdt.Text).insert(0, text)
    return document.get_update()


def test_a_template_keeps_the_bytes_and_knows_who_wrote_them() -> None:
    update = built()
    template = Template(update, sha256=digest(update).upper())
    assert template.update == update
    assert template.clients == {7}


def test_a_template_that_was_built_anew_is_refused_with_the_digest_that_it_has() -> None:
    again = built(client_id=8)
    with pytest.raises(LocalError, match=digest(again)) as refused:
        Template(again, sha256=digest(built()))
    assert "content twice" in str(refused.value)


@pytest.mark.parametrize("update", [b"", b"\xff", b"\1\1\1", built()[:-1], built() + b"\0"])
def test_bytes_that_no_relay_would_take_are_refused(update: bytes) -> None:
    with pytest.raises(LocalError, match="not a whole document"):
        Template(update, sha256=digest(update))


def test_an_update_that_builds_on_others_is_no_template() -> None:
    document: pycrdt.Doc[Any] = pycrdt.Doc()
    text = document.get("body", type=pycrdt.Text)
    text.insert(0, "first")
    before = document.get_state()
    text.insert(5, "second")
    part = document.get_update(before)
    with pytest.raises(LocalError, match="not a whole document"):
        Template(part, sha256=digest(part))


def test_an_empty_template_is_taken_for_the_mistake_that_it_is() -> None:
    empty = pycrdt.Doc().get_update()
    with pytest.raises(LocalError, match="has no content"):
        Template(empty, sha256=digest(empty))


def test_a_template_above_the_bound_of_an_update_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    update = built("x" * 1000)
    Template(update, sha256=digest(update))
    monkeypatch.setattr(limits, "MAX_UPDATE_BYTES", 900)
    with pytest.raises(TooLarge):
        Template(update, sha256=digest(update))
