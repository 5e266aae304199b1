"""``collab notebook import`` and ``export``: whole files, or the reason why not."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

import collab
from collab import limits
from collab.notebook.document import Notebook
from collab.notebook.files import export_file, import_file
from collab.notebook.interchange import write_ipynb
from tests.unit.notebook.documents import REAL, from_file


def written(path: Path) -> Path:
    path.write_text(json.dumps(REAL))
    return path


def test_a_file_goes_into_a_store_and_comes_out_the_same(tmp_path: Path) -> None:
    store, out = tmp_path / "a.db", tmp_path / "out.ipynb"
    source = written(tmp_path / "in.ipynb")
    assert "4 cells" in import_file(source, "nb", relay=None, store=store)
    assert "4 cells" in export_file("nb", out, relay=None, store=store, force=False)
    assert from_file(out.read_bytes()) == REAL
    assert out.stat().st_mode & 0o777 == 0o666 & ~_umask()
    assert sorted(path.name for path in tmp_path.iterdir() if path.suffix == ".ipynb") == [
        "in.ipynb",
        "out.ipynb",
    ]


def test_a_file_that_is_there_is_replaced_only_by_force(tmp_path: Path) -> None:
    store, out = tmp_path / "a.db", tmp_path / "out.ipynb"
    import_file(written(tmp_path / "in.ipynb"), "nb", relay=None, store=store)
    out.write_text("mine")
    with pytest.raises(collab.LocalError, match="--force"):
        export_file("nb", out, relay=None, store=store, force=False)
    assert out.read_text() == "mine"
    export_file("nb", out, relay=None, store=store, force=True)
    assert json.loads(out.read_text())["nbformat"] == 4


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has other rights, and few links")
def test_a_replaced_file_keeps_its_rights_and_its_place(tmp_path: Path) -> None:
    store, out, link = tmp_path / "a.db", tmp_path / "out.ipynb", tmp_path / "link.ipynb"
    import_file(written(tmp_path / "in.ipynb"), "nb", relay=None, store=store)
    out.write_text("mine")
    out.chmod(0o600)
    link.symlink_to(out)
    export_file("nb", link, relay=None, store=store, force=True)
    assert link.is_symlink()
    assert from_file(out.read_bytes()) == REAL
    assert out.stat().st_mode & 0o777 == 0o600


def test_a_file_that_came_while_the_room_was_asked_for_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, out = tmp_path / "a.db", tmp_path / "out.ipynb"
    import_file(written(tmp_path / "in.ipynb"), "nb", relay=None, store=store)

    def meanwhile(notebook: Notebook) -> bytes:
        out.write_text("mine")
        return write_ipynb(notebook)

    monkeypatch.setattr("collab.notebook.files.write_ipynb", meanwhile)
    with pytest.raises(collab.LocalError, match="--force"):
        export_file("nb", out, relay=None, store=store, force=False)
    assert out.read_text() == "mine"
    assert sorted(path.suffix for path in tmp_path.iterdir()).count(".ipynb") == 2


def test_what_cannot_be_done_is_said_and_leaves_nothing(tmp_path: Path) -> None:
    store, out = tmp_path / "a.db", tmp_path / "out.ipynb"
    source = written(tmp_path / "in.ipynb")
    with pytest.raises(collab.LocalError, match="--store FILE, --relay"):
        import_file(source, "nb", relay=None, store=None)
    with pytest.raises(collab.LocalError, match="cannot be read"):
        import_file(tmp_path / "gone.ipynb", "nb", relay=None, store=store)
    with pytest.raises(collab.LocalError, match="no store"):
        export_file("nb", out, relay=None, store=store, force=False)
    assert not store.exists()
    import_file(source, "nb", relay=None, store=store)
    with pytest.raises(collab.RoomNotEmpty):
        import_file(source, "nb", relay=None, store=store)
    with pytest.raises(collab.BadNotebook, match="no notebook in the room 'other'"):
        export_file("other", out, relay=None, store=store, force=False)
    with pytest.raises(collab.LocalError, match="cannot be written"):
        export_file("nb", tmp_path / "no" / "out.ipynb", relay=None, store=store, force=False)
    assert not out.exists()


def test_a_file_above_the_bound_is_not_even_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = written(tmp_path / "in.ipynb")
    monkeypatch.setattr(limits, "MAX_NOTEBOOK_BYTES", 10)
    with pytest.raises(collab.TooLarge, match="a notebook may have 10"):
        import_file(source, "nb", relay=None, store=tmp_path / "a.db")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
