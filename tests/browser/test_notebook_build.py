"""The page that is committed is the one that its sources make, and the wheel carries it."""

from __future__ import annotations

import re
import sys
import zipfile
from pathlib import Path

from collab.notebook.document import FRESH
from collab.notebook.site import STATIC
from tests.npm import install, run

ROOT = Path(__file__).parent.parent.parent
SOURCES = ROOT / "examples" / "notebook"


def test_the_committed_page_is_what_its_sources_make_byte_for_byte(tmp_path: Path) -> None:
    install(SOURCES)
    run(SOURCES, "node", "build.mjs", str(tmp_path))
    built = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    committed = {path.name: path.read_bytes() for path in STATIC.iterdir()}
    assert built.keys() == committed.keys()
    different = [name for name, content in built.items() if committed[name] != content]
    assert not different, "build it anew and commit it: make notebook"


def test_the_sources_of_the_page_pass_the_compiler() -> None:
    install(SOURCES)
    run(SOURCES, "npm", "run", "--silent", "check")


def test_the_page_begins_with_the_same_notebook_as_a_python_client() -> None:
    source = (SOURCES / "src" / "notebook.ts").read_text()
    constant = source.split("const FRESH =")[1].split(";")[0]
    assert bytes.fromhex("".join(re.findall(r'"([0-9a-f]+)"', constant))) == FRESH.update


def test_the_page_names_no_registry_and_nothing_outside_itself() -> None:
    assert "resolved" not in (SOURCES / "package-lock.json").read_text()
    for path in STATIC.iterdir():
        content = path.read_text()
        assert "//# sourceMappingURL" not in content
        assert str(ROOT) not in content
        loaded = re.findall(r"""(?:src|href|url\()\s*=?\s*["']?(https?:[^"')\s]+)""", content)
        assert not loaded, f"{path.name}: {loaded}"


def test_a_wheel_carries_the_page(tmp_path: Path) -> None:
    run(
        tmp_path, sys.executable, "-m", "pip", "--quiet", "wheel", str(ROOT), "--no-deps",
        "--no-index", "--no-build-isolation", "--wheel-dir", str(tmp_path),
    )  # fmt: skip
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as opened:
        for path in STATIC.iterdir():
            assert opened.read(f"collab/notebook/static/{path.name}") == path.read_bytes()
