"""Where things are when nobody says so, on each system; and tokens that nobody else sees."""

from __future__ import annotations

from pathlib import Path

import pytest

from collab.errors import LocalError
from collab.terminal.places import TOKEN, default_store, make_folder, token_source

HOME = Path("/home/ada")


@pytest.mark.parametrize(
    ("platform", "environ", "store"),
    [
        ("linux", {}, HOME / ".local/share/collab/collab.db"),
        ("linux", {"XDG_DATA_HOME": "/data"}, Path("/data/collab/collab.db")),
        ("linux", {"XDG_DATA_HOME": "not/absolute"}, HOME / ".local/share/collab/collab.db"),
        ("darwin", {}, HOME / "Library/Application Support/collab/collab.db"),
        ("win32", {"LOCALAPPDATA": "/local"}, Path("/local/collab/collab.db")),
        ("win32", {}, HOME / "AppData/Local/collab/collab.db"),
    ],
)
def test_a_store_is_where_the_system_keeps_a_users_data(
    platform: str, environ: dict[str, str], store: Path
) -> None:
    assert default_store(environ, HOME, platform) == store


def test_the_folder_is_made_for_this_user_alone(tmp_path: Path) -> None:
    store = tmp_path / "a" / "collab.db"
    make_folder(store)
    assert store.parent.stat().st_mode & 0o777 == 0o700
    (tmp_path / "file").touch()
    with pytest.raises(LocalError, match="--store"):
        make_folder(tmp_path / "file" / "collab.db")


def test_a_token_comes_from_the_environment_or_a_file_that_is_read_each_time(
    tmp_path: Path,
) -> None:
    assert token_source({}, None) is None
    assert token_source({TOKEN: ""}, None) is None
    assert token_source({TOKEN: "abc"}, None) == "abc"
    file = tmp_path / "token"
    file.write_text("first\n")
    source = token_source({TOKEN: "abc"}, file)
    assert callable(source)
    assert source() == "first"
    file.write_text("second\n")
    assert source() == "second"


def test_a_token_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(LocalError, match="none"):
        token_source({}, tmp_path / "none")
