"""The command line: what it says about misuse, and how ``serve`` starts and ends."""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import collab
from collab import cli
from collab.doctor import Finding, Outcome

MAIN = [sys.executable, "-c", "from collab.cli import main; main()"]


def refusal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str
) -> str:
    """What a command that must not succeed writes on stderr."""
    monkeypatch.setattr(sys, "argv", ["collab", *arguments])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == 1
    said = capsys.readouterr()
    assert said.out == ""
    return said.err


@contextmanager
def serving(data: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """``collab serve --open`` as a process, and its address."""
    command = [*MAIN, "serve", "--open", "--port", "0", "--data", str(data)]
    with (
        (data.parent / "stderr.txt").open("w+") as errors,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True) as process,
    ):
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            errors.seek(0)
            assert line.startswith("relay: ws://127.0.0.1:"), errors.read()
            yield process, line.removeprefix("relay: ").strip()
        finally:
            process.kill()


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """A running relay for those who must not start a second one: its folder and its address."""
    data = tmp_path_factory.mktemp("relay") / "data"
    with serving(data) as (_, url):
        yield data, url


def test_serve_denies_by_default(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    said = refusal(monkeypatch, capsys, "serve", "--data", str(tmp_path), "--port", "0")
    assert said.startswith("collab: ")
    assert said.count("\n") == 1
    assert "denies by default" in said
    assert "--open" in said


def test_an_open_relay_serves_this_machine_only(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    arguments = ("serve", "--open", "--host", "0.0.0.0", "--data", str(tmp_path))
    assert "loopback" in refusal(monkeypatch, capsys, *arguments)


def test_a_port_in_use_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        arguments = ("serve", "--open", "--port", port, "--data", str(tmp_path))
        said = refusal(monkeypatch, capsys, *arguments)
    assert f"cannot listen on 127.0.0.1:{port}" in said
    assert "another --port" in said


def test_a_second_relay_on_the_same_log_is_told_who_has_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], relay: tuple[Path, str]
) -> None:
    data, _ = relay
    said = refusal(monkeypatch, capsys, "serve", "--open", "--port", "0", "--data", str(data))
    assert "is in use" in said
    assert "process" in said


def test_a_folder_that_cannot_be_made_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "[file]").touch()  # brackets are not markup
    data = str(tmp_path / "[file]" / "data")
    said = refusal(monkeypatch, capsys, "serve", "--open", "--port", "0", "--data", data)
    assert data in said
    assert data in refusal(monkeypatch, capsys, "demo", "--data", data)
    assert data in refusal(monkeypatch, capsys, "demo", "--headless", "--data", data)


def test_the_demo_does_not_touch_a_folder_with_files(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    assert "is not empty" in refusal(
        monkeypatch, capsys, "demo", "--headless", "--data", str(tmp_path)
    )
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize("command", [[], ["serve"], ["demo"], ["chat"], ["status"], ["doctor"]])
def test_help_explains(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["collab", *command, "--help"])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == 0
    assert "Usage: collab" in capsys.readouterr().out


def test_doctor_tries_a_token_of_a_file_and_says_which_file_it_cannot_read(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    missing = tmp_path / "no token"
    monkeypatch.setattr(
        sys, "argv", ["collab", "doctor", "ws://127.0.0.1:9", "--token-file", str(missing)]
    )
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == 1
    assert str(missing) in capsys.readouterr().err.replace("\n", "")


def test_doctor_says_step_by_step_how_it_is_and_ends_with_a_status(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], relay: tuple[Path, str]
) -> None:
    for url, status in ((relay[1], 0), ("ws://127.0.0.1:9", 1)):
        monkeypatch.setattr(sys, "argv", ["collab", "doctor", url])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        assert caught.value.code == status
        lines = capsys.readouterr().out.splitlines()
        assert lines[0].split()[:2] == ["GOOD", "DNS"]
        assert lines[-1].split()[:2] == (["GOOD", "clock"] if status == 0 else ["BAD", "TCP"])


EVIL = "\x1b]0;owned\x07\x9b31m"


def test_what_a_relay_says_reaches_the_terminal_harmless(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def examined(*_: object, **__: object) -> AsyncIterator[Finding]:
        yield Finding("WebSocket", Outcome.BAD, EVIL)

    def refused(*_: object, **__: object) -> str:
        raise collab.Rejected(EVIL, code="no")

    monkeypatch.setattr("collab.doctor.examine", examined)
    monkeypatch.setattr("collab.notebook.files.export_file", refused)
    for arguments in (["doctor", "ws://x"], ["notebook", "export", "room", "file"]):
        monkeypatch.setattr(sys, "argv", ["collab", *arguments])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        assert caught.value.code == 1
        said = "".join(capsys.readouterr())
        assert "\\x1b]0;owned\\x07\\x9b31m" in said
        assert not set(EVIL) & set(said) & set("\x1b\x07\x9b")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM to handle")
def test_sigterm_ends_serve_within_ten_seconds_while_clients_are_connected(tmp_path: Path) -> None:
    async def main(url: str, process: subprocess.Popen[str]) -> None:
        async with (
            asyncio.timeout(30),
            collab.open(tmp_path / "a.db", relay=url) as a,
            collab.open(tmp_path / "b.db", relay=url) as b,
        ):
            for client in (a, b):
                room = await client.room("room")
                room.text("body").insert(0, "saved")
                await room.wait_synced()
            process.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(process.wait, 10) == 0

    with serving(tmp_path / "data") as (process, url):
        asyncio.run(main(url, process))
