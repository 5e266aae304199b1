"""A line is a message, a command, or refused; never a guess."""

from __future__ import annotations

import pytest

from collab.errors import LocalError
from collab.terminal.commands import COMMANDS, Command, Say, parse


@pytest.mark.parametrize(
    ("line", "asked"),
    [
        ("hello", Say("hello")),
        ("  indented", Say("  indented")),
        ("//etc/hosts", Say("/etc/hosts")),
        ("a / b", Say("a / b")),
        ("two\nlines", Say("two\nlines")),
        ("", None),
        (" \t\n", None),
        ("/quit", Command("quit")),
        ("/more  ", Command("more")),
        ("/cancel", Command("cancel")),
        ("/cancel #12", Command("cancel", 12)),
        ("/retry #1", Command("retry", 1)),
        ("/edit new text", Command("edit", None, "new text")),
        ("/edit #3 new  text", Command("edit", 3, "new  text")),
        ("/edit #3rd is wrong", Command("edit", None, "#3rd is wrong")),
        ("/fork my copy", Command("fork", None, "my copy")),
        ("/fork #3", Command("fork", None, "#3")),
        ("/edit /etc", Command("edit", None, "/etc")),
    ],
)
def test_a_line_is_understood(line: str, asked: Say | Command | None) -> None:
    assert parse(line) == asked


@pytest.mark.parametrize(
    "line",
    ["/", "/nope", "/Quit", "/edit", "/edit #3", "/fork", "/more 5", "/cancel 3", "/quit now"],
)
def test_a_mistyped_command_is_refused_and_not_sent(line: str) -> None:
    with pytest.raises(LocalError):
        parse(line)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_that_help_lists_exists(name: str) -> None:
    assert parse(f"/{name} text" if name in ("edit", "fork") else f"/{name}") is not None
