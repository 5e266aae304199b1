"""What one run of a cell leaves in the document: bounded, in order, without I/O.

1. One run puts at most ``limits.MAX_RUN_TEXT_BYTES`` of text, ``MAX_RUN_IMAGE_BYTES`` of images and
   ``MAX_RUN_OUTPUTS`` outputs into the document, also if it clears them in between. What is beyond
   is left out, and one line for each bound says so.
2. What was cleared before anybody saw it never gets there.
3. An error is shown also when a bound was reached: it has an allowance of its own, once.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from collab import limits
from collab.notebook.values import Json, check_value, clean_text

__all__ = ["Change", "Clear", "RunOutputs", "note", "without_ansi"]

_ERROR_BYTES: Final = 16 * limits.KIB  # of a traceback; what is above it says where it comes from
_ANSI: Final = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"  # a control sequence: colours, the cursor
    r"|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)"  # an operating system command: titles, links
    r"|\x1b[ -/]*[0-Z\\^-~]"  # everything shorter
)
_CUT_ANSI: Final = re.compile(r"\x1b(?:\[[0-?]*[ -/]*|\][^\x07\x1b]{0,200})?\Z")
_IMAGES: Final = ("image/png", "image/jpeg")


@dataclass(frozen=True, slots=True)
class Clear:
    """Delete what the cell shows."""


Change: TypeAlias = Clear | dict[str, Json]
"""What is to be done to the cell's outputs: delete them, or add this one."""


class RunOutputs:
    """One run's outputs: takes what the kernel says, gives what is due for the document.

    Kernels may change what they displayed before (``update_display_data``); that is left out.
    Source of the messages: "Messaging in Jupyter", iopub.
    """

    def __init__(self) -> None:
        self._pending: list[Change] = []
        self._clear_first = False  # with the next output: clear_output(wait=True)
        self._tails = {"stdout": "", "stderr": ""}  # the beginning of an ANSI sequence
        self._text_left = limits.MAX_RUN_TEXT_BYTES
        self._images_left = limits.MAX_RUN_IMAGE_BYTES
        self._outputs_left = limits.MAX_RUN_OUTPUTS
        self._last_stream: str | None = None  # what the cell's last output is
        self._said: set[str] = set()
        self._had_error = False

    def take(self, kind: str, content: Mapping[str, Any]) -> None:
        """A message from the kernel. What is of no use here is passed over."""
        match kind:
            case "stream":
                self._stream(content)
            case "display_data" | "execute_result":
                self._display(kind, content)
            case "error":
                self._error(content)
            case "clear_output":
                if content.get("wait"):
                    self._clear_first = True
                else:
                    self._clear()

    def flush(self) -> list[Change]:
        """What is due since the last time, in its order."""
        due, self._pending = self._pending, []
        return due

    def _stream(self, content: Mapping[str, Any]) -> None:
        name = "stderr" if content.get("name") == "stderr" else "stdout"
        whole = self._tails[name] + str(content.get("text", ""))
        self._tails[name] = ""
        if found := _CUT_ANSI.search(whole):
            whole, self._tails[name] = whole[: found.start()], found[0]
        text = without_ansi(whole)
        if text:
            self._add_stream(name, text)

    def _add_stream(self, name: str, text: str) -> None:
        if "outputs" in self._said:
            return
        is_another = self._last_stream != name or self._clear_first
        if is_another and not self._outputs_left:
            self._say("outputs", f"this run made more than {limits.MAX_RUN_OUTPUTS} outputs")
            return
        fitting = _cut(text, self._text_left)
        if fitting:
            self._text_left -= len(fitting.encode())
            self._outputs_left -= is_another
            self._put({"output_type": "stream", "name": name, "text": fitting})
        if fitting != text:
            self._say("text", f"this run wrote more than {_size(limits.MAX_RUN_TEXT_BYTES)}")

    def _display(self, kind: str, content: Mapping[str, Any]) -> None:
        if not self._outputs_left:
            self._say("outputs", f"this run made more than {limits.MAX_RUN_OUTPUTS} outputs")
            return
        data: dict[str, Json] = {}
        bundle = content.get("data")
        for mime, value in bundle.items() if isinstance(bundle, dict) else ():
            image = mime in _IMAGES
            kept = without_ansi(value) if mime == "text/plain" else value
            kept = clean_text(kept) if isinstance(kept, str) else kept
            size = _bytes(kept)
            if size is None or _bytes(mime) is None:
                continue  # no document could hold it
            if image and size <= self._images_left:
                self._images_left -= size
            elif not image and size <= self._text_left:
                self._text_left -= size
            elif image:
                most = _size(limits.MAX_RUN_IMAGE_BYTES)
                self._say("images", f"images of this run beyond {most} are left out")
                continue
            else:
                self._say("text", f"this run wrote more than {_size(limits.MAX_RUN_TEXT_BYTES)}")
                continue
            data[mime] = kept
        if not data:
            return
        made: dict[str, Json] = {"output_type": kind, "data": data, "metadata": {}}
        if kind == "execute_result":
            count = content.get("execution_count")
            made["execution_count"] = count if isinstance(count, int) else None
        metadata = content.get("metadata")
        if isinstance(metadata, dict) and (size := _bytes(metadata)) and size <= self._text_left:
            self._text_left -= size
            made["metadata"] = metadata
        self._outputs_left -= 1
        self._put(made)

    def _error(self, content: Mapping[str, Any]) -> None:
        if self._had_error:
            return
        self._had_error = True
        lines = content.get("traceback")
        text = "\n".join(str(line) for line in lines) if isinstance(lines, list) else ""
        whole = without_ansi(text)
        kept = whole.encode()[-_ERROR_BYTES:].decode("utf-8", "ignore")
        traceback = kept.split("\n") if kept else []
        self._put(
            {
                "output_type": "error",
                "ename": _cut(clean_text(str(content.get("ename", ""))), 256),
                "evalue": _cut(without_ansi(str(content.get("evalue", ""))), _ERROR_BYTES),
                "traceback": traceback
                if kept == whole
                else ["(the beginning was cut)", *traceback],
            }
        )

    def _say(self, which: str, why: str) -> None:
        if which not in self._said:
            self._said.add(which)
            self._put(note(f"\n[{why}: cut here. It runs on, and what it shows is left out.]\n"))

    def _put(self, output: dict[str, Json]) -> None:
        if self._clear_first:
            self._clear()
        stream = output["name"] if output["output_type"] == "stream" else None
        last = self._pending[-1] if self._pending else None
        if stream and isinstance(last, dict) and last.get("name") == stream:
            self._pending[-1] = {**last, "text": last["text"] + output["text"]}
        else:
            self._pending.append(output)
        self._last_stream = stream

    def _clear(self) -> None:
        self._clear_first = False
        self._last_stream = None
        self._pending = [Clear()]


def note(text: str) -> dict[str, Json]:
    """What the kernel's program itself has to say in a cell."""
    return {"output_type": "stream", "name": "stderr", "text": text}


def without_ansi(text: str) -> str:
    """Text without what steers a terminal, and without what UTF-8 cannot carry."""
    if not isinstance(text, str):
        return ""
    # What is left of nested sequences could be one again: no escape stays.
    return clean_text(_ANSI.sub("", text).replace("\x1b", ""))


def _cut(text: str, most: int) -> str:
    """The beginning of it that has at most so many bytes of UTF-8."""
    if len(text) * 4 <= most:
        return text
    return text.encode()[:most].decode("utf-8", "ignore")


def _bytes(value: Json) -> int | None:
    """How much a document grows by it; None if it cannot hold it."""
    try:
        check_value(value)
    except (ValueError, RecursionError):
        return None
    return len(value) if isinstance(value, str) and value.isascii() else len(json.dumps(value))


def _size(count: int) -> str:
    whole = count // limits.KIB
    return f"{whole} KiB" if whole < limits.KIB else f"{whole // limits.KIB} MiB"
