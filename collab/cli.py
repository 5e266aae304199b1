"""The command line. A command that is not built does not exist."""

from __future__ import annotations

import io
import logging
import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from collab.errors import CollabError, LocalError, OfflineError
from collab.terminal import safe

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Offline-first collaboration: documents on this device's disk first.",
)
_errors = Console(stderr=True, highlight=False)


@app.callback()
def _root() -> None:
    """Offline-first collaboration."""


@app.command()
def serve(
    data: Annotated[Path, typer.Option(help="Folder of the relay's log.")] = Path("data"),
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port; 0 lets the system choose.")
    ] = 8765,
    open_: Annotated[
        bool,
        typer.Option("--open", help="Let everybody on this machine in, without tokens."),
    ] = False,
    origin: Annotated[
        list[str] | None, typer.Option(help="Origin of a web page that may connect; repeatable.")
    ] = None,
) -> None:
    """Run a relay until SIGTERM or Ctrl-C. Everything is in one locked file under --data."""
    from collab_server.app import Relay
    from collab_server.serving import run
    from collab_server.settings import Settings

    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    try:
        data.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LocalError(
            f"The log cannot be kept in {data}: {error.strerror}. Nothing was started. Give a "
            f"folder that this user may write: --data DIR."
        ) from error
    settings = Settings(data=data, host=host, port=port, open=open_, origins=tuple(origin or ()))
    run(
        Relay(settings),
        settings,
        on_ready=lambda url: print(f"relay: {url}", flush=True),
    )


@app.command()
def demo(
    *,
    headless: Annotated[
        bool,
        typer.Option("--headless", help="No page: the story of two programs, in this terminal."),
    ] = False,
    port: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=65535,
            show_default="8765",
            help="Port of the page; 0 lets the system choose. What a browser keeps belongs to it.",
        ),
    ] = None,
    kernel: Annotated[
        bool,
        typer.Option(
            "--kernel",
            help="Run the notebook's code, in a Jupyter kernel. Whoever writes into the notebook "
            "then does on this machine what you may do.",
        ),
    ] = False,
    data: Annotated[
        Path | None,
        typer.Option(
            help="Folder for the files. Of the notebook the default is collab/demo in this user's "
            "folder for data; the story needs a new or empty one, and keeps only a given one.",
            show_default=False,
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(help="With --headless, repeat a run: when links are cut and who is killed."),
    ] = None,
    quick: Annotated[
        bool,
        typer.Option(
            "--quick", help="With --headless, the first few thousand edits: some seconds."
        ),
    ] = False,
) -> None:
    """Serve a notebook for several people at an address of this machine, until Ctrl-C.

    Open it in two windows, write in both, switch one offline, reload it, come back. A sample
    participant is there to play with. Nobody else can reach it: it listens on 127.0.0.1 alone.

    With --headless there is no page: two programs edit one room, offline and on, are killed, and
    come out identical. They replay two real editing histories (281,225 edits) into one room and
    send messages all the while; their networks go away, one of them and the relay are killed
    (SIGKILL) and started again. Who was killed sends all its messages again, under their ids. In
    the end a third, empty client joins; all are compared with what the histories' own authors ended
    with, and every message must be everywhere once, in its writer's order. Takes about 40 seconds.
    Exit status 0: so it is. 1: not, and the files are kept.
    """
    if headless:
        if port is not None or kernel:
            raise typer.BadParameter("--port and --kernel are of the notebook, not of --headless.")
        from collab.demo.run import Screen, run_demo

        raise typer.Exit(run_demo(Screen(), seed=seed, quick=quick, data=data))
    if seed is not None or quick:
        raise typer.BadParameter("--seed and --quick are of the story: add --headless.")
    from collab.demo.notebook import DEFAULT_PORT, run_notebook
    from collab.terminal.places import default_store

    folder = data or default_store(os.environ, Path.home()).parent / "demo"
    chosen = DEFAULT_PORT if port is None else port
    raise typer.Exit(run_notebook(Console(), port=chosen, data=folder, kernel=kernel))


# What several commands take alike.
_Relay = Annotated[
    str | None, typer.Option(envvar="COLLAB_RELAY", help="Address, such as ws://127.0.0.1:8765.")
]
_OwnStore = Annotated[
    Path | None,
    typer.Option(
        envvar="COLLAB_STORE",
        help="File that keeps everything; one for each relay. Default: collab/collab.db in "
        "this user's folder for data.",
        show_default=False,
    ),
]
_TokenFile = Annotated[
    Path | None,
    typer.Option(help="File with the token, read at each connection. Or set COLLAB_TOKEN."),
]
_Last = Annotated[int, typer.Option(min=1, max=1000, help="Messages to begin with.")]


@app.command()
def chat(
    room: Annotated[str, typer.Argument(help="Name of the room.")],
    *,
    relay: _Relay = None,
    store: _OwnStore = None,
    name: Annotated[
        str | None,
        typer.Option(envvar="COLLAB_NAME", help="What others see beside your identity."),
    ] = None,
    token_file: _TokenFile = None,
    last: _Last = 50,
    wait: Annotated[
        float,
        typer.Option(min=0.0, help="In a pipe: seconds to wait for what was sent."),
    ] = 10.0,
) -> None:
    """Talk in a room, online or not. /help says what can be typed.

    What was said before comes from this disk, at once. A message is saved here when it appears;
    beside it stands how far it is: queued, sending, accepted by the relay, delivered, read. What
    waits when you leave goes up the next time that the room is open.

    Where stdin or stdout is no terminal it works in plain lines: each line of stdin is a message
    or a command. Exit status 0: all were accepted (or nothing was sent). 3: some still wait, saved.
    1: one was refused, expired or not taken; or a command failed.
    """
    from collab.terminal.run import Chat, run_chat

    raise typer.Exit(run_chat(Chat(room, store, relay, name, token_file, last, wait)))


@app.command()
def edit(
    room: Annotated[str, typer.Argument(help="Name of the room.")],
    *,
    text: Annotated[str, typer.Option(help="Name of the text in the room.")] = "body",
    relay: _Relay = None,
    store: _OwnStore = None,
    name: Annotated[
        str | None,
        typer.Option(envvar="COLLAB_NAME", help="What others see beside your caret."),
    ] = None,
    token_file: _TokenFile = None,
    last: _Last = 50,
) -> None:
    """Write a room's text with others, online or not, its chat beside it.

    The text comes from this disk, at once. The line at the foot says whether what you wrote is
    saved here and synced, and what waits. Undo takes back your own edits, never other people's.
    Others' carets are in the text, with their names; those of web editors too.

    Needs `pip install 'collab-sync[edit]'`. Ctrl+Q leaves, once everything is saved.
    """
    from collab.editor.run import Edit, run_edit

    raise typer.Exit(run_edit(Edit(room, text, store, relay, name, token_file, last)))


@app.command()
def status(
    file: Annotated[Path, typer.Argument(help="A device's store file.")],
    json_: Annotated[bool, typer.Option("--json", help="One JSON object, for programs.")] = False,
) -> None:
    """Say what a store file holds: its rooms, and what of them waits to be sent.

    Needs no lock: a program may have the file open. Nothing is changed, not even a file of an older
    version. Whether that program is connected now is not in the file, so it is not said.
    """
    from collab.storage.survey import survey
    from collab.terminal.standing import as_json, as_text

    found = survey(file)
    typer.echo(as_json(found) if json_ else as_text(found))


@app.command()
def doctor(
    url: Annotated[str, typer.Argument(help="The relay's address, such as wss://relay.example.")],
    token_file: Annotated[
        Path | None,
        typer.Option(help="File with a token, to see whether it is taken. Or set COLLAB_TOKEN."),
    ] = None,
    proxy: Annotated[
        str | None, typer.Option(help="An http:// proxy on the way, as the program uses it.")
    ] = None,
) -> None:
    """Say why a device cannot reach its relay, and what to do about it.

    Looks at DNS, TCP, TLS, HTTP, the relay's own answer, the WebSocket with its round trip, and
    the clocks, in this order, and stops at the first that is bad. Changes nothing anywhere.

    Exit status 0: it connects. 1: it does not.
    """
    import asyncio
    import os

    from collab.doctor import Outcome, examine
    from collab.terminal.places import token_source

    looks = {Outcome.GOOD: "green", Outcome.LOOK: "yellow", Outcome.BAD: "red"}
    screen = Console(highlight=False)
    source = token_source(os.environ, token_file)
    token = source() if callable(source) else source

    async def tell() -> bool:
        well = True
        async for found in examine(url, token=token, proxy=proxy):
            well = found.outcome is not Outcome.BAD
            mark = f"{found.outcome.upper():4}  {found.step:10}"
            screen.print(mark, style=looks[found.outcome], end=" ", markup=False)
            screen.print(safe.text(found.said), markup=False, soft_wrap=True)
        return well

    raise typer.Exit(0 if asyncio.run(tell()) else 1)


@app.command()
def kernel(
    room: Annotated[str, typer.Argument(help="Name of the room.")],
    *,
    relay: Annotated[
        str,
        typer.Option(envvar="COLLAB_RELAY", help="Address on this machine: ws://127.0.0.1:8765."),
    ],
    store: Annotated[
        Path | None,
        typer.Option(help="File that keeps the notebook, for this program alone. Default: memory."),
    ] = None,
    name: Annotated[str, typer.Option(help="What others see.")] = "Kernel",
    kernel_: Annotated[str, typer.Option("--kernel", help="A Jupyter kernel.")] = "python3",
    folder: Annotated[
        Path | None,
        typer.Option(exists=True, file_okay=False, help="Where the code runs. Default: here."),
    ] = None,
) -> None:
    """Run the cells of a notebook's room, for whoever asks there. It runs code as this user.

    Needs `pip install 'collab-sync[notebook]'`, and takes a relay on this machine alone. Ends with
    Ctrl-C; it may be killed and started again at any time, and marks the cell that ran then. Exit
    status 1: a fault, or the relay has not confirmed all that was shown.
    """
    import asyncio

    from collab.notebook.kernel import KernelProgram, run_kernel

    program = KernelProgram(room, relay, store or ":memory:", name, kernel_, folder)
    left = asyncio.run(
        run_kernel(
            program,
            on_opened=lambda: typer.echo(
                f"kernel: runs any code that somebody in the room {room!r} at {relay} asks for, "
                "as this user. Ctrl-C ends it."
            ),
            on_ready=lambda pid: typer.echo(f"kernel: ready, process {pid}"),
        )
    )
    if left:
        changes = "1 change" if left == 1 else f"{left:,} changes"
        kept = "Without --store that is lost."
        if store is not None:
            kept = f"That is saved in {store}, and goes up the next time."
        raise OfflineError(f"The relay has not confirmed {changes} of the notebook. {kept}")


notebooks = typer.Typer(no_args_is_help=True, help="Notebooks as .ipynb files.")
app.add_typer(notebooks, name="notebook")

_Store = Annotated[Path | None, typer.Option(help="A device's store file. Default: memory.")]


@notebooks.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="The .ipynb file.")],
    room: Annotated[str, typer.Argument(help="Name of the room, which has nothing yet.")],
    *,
    relay: _Relay = None,
    store: _Store = None,
) -> None:
    """Read an .ipynb file into an empty room, of a store file, at a relay, or both."""
    from collab.notebook.files import import_file

    typer.echo(import_file(file, room, relay=relay, store=store))


@notebooks.command()
def export(
    room: Annotated[str, typer.Argument(help="Name of the room.")],
    file: Annotated[Path, typer.Argument(help="The .ipynb file to write.")],
    *,
    relay: _Relay = None,
    store: _Store = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
) -> None:
    """Write the notebook of a room as an .ipynb file that is valid for nbformat."""
    from collab.notebook.files import export_file

    typer.echo(export_file(room, file, relay=relay, store=store, force=force))


def main() -> None:
    """Run the command line; an error of ours ends it with status 1 and one readable line."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # a pipe's encoding may lack what others write
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        app(prog_name="collab")
    except CollabError as error:
        said = safe.text(str(error))  # there may be a relay's own words in it
        _errors.print(f"collab: {said}", style="red", markup=False, soft_wrap=True)
        raise SystemExit(1) from None


def serve_main() -> None:
    """``python -m collab_server``: ``collab serve`` under another name."""
    sys.argv.insert(1, "serve")
    main()
