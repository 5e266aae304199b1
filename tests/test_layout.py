"""Which module may import which (ARCHITECTURE.md, "Folders"): read from the sources themselves."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = {"collab": ROOT / "collab", "collab_server": ROOT / "server" / "collab_server"}
PURE = [*sorted((ROOT / "collab" / "protocol").glob("*.py")), PACKAGES["collab_server"] / "room.py"]
IMPURE = {
    "aiosqlite", "asyncio", "datetime", "http", "io", "os", "pathlib", "random", "secrets",
    "select", "socket", "sqlite3", "subprocess", "tempfile", "threading", "time", "urllib", "uuid",
    "websockets",
}  # fmt: skip
ENGINES = {"pycrdt", "y_py"}


def imports(path: Path, *, at_import_time: bool = False) -> set[str]:
    """The modules that a file names in imports; or only those that importing it imports."""
    tree = ast.parse(path.read_text())
    found: set[str] = set()
    todo: list[ast.AST] = [tree]
    while todo:
        node = todo.pop()
        if at_import_time and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            todo.extend(node.orelse)
            continue
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
        todo.extend(ast.iter_child_nodes(node))
    return found


def roots(modules: set[str]) -> set[str]:
    return {module.split(".")[0] for module in modules}


def sources(package: str) -> list[Path]:
    return sorted(PACKAGES[package].rglob("*.py"))


def test_the_client_package_never_imports_the_relay_when_it_is_imported() -> None:
    offenders = [
        path
        for path in sources("collab")
        if "collab_server" in roots(imports(path, at_import_time=True))
    ]
    assert not offenders


def test_only_the_command_line_the_demo_and_the_test_kit_ever_import_the_relay() -> None:
    allowed = {"cli.py", "testing.py"}
    offenders = [
        path
        for path in sources("collab")
        if "collab_server" in roots(imports(path))
        and path.name not in allowed
        and "demo" not in path.parts
    ]
    assert not offenders


@pytest.mark.parametrize("path", PURE, ids=lambda path: path.name)
def test_the_protocol_and_the_rules_of_the_log_do_no_io(path: Path) -> None:
    assert not roots(imports(path)) & IMPURE


@pytest.mark.parametrize("package", PACKAGES)
@pytest.mark.parametrize("library", ["websockets", "msgpack", "aiosqlite", "httpx", "dbus_fast"])
def test_at_most_one_module_per_package_imports_a_library(package: str, library: str) -> None:
    importers = [path.name for path in sources(package) if library in roots(imports(path))]
    assert len(importers) <= 1, importers


def test_engines_are_imported_in_the_engine_port_and_the_shape_of_a_notebook_alone() -> None:
    notebook = PACKAGES["collab"] / "notebook"
    offenders = [
        path
        for package in PACKAGES
        for path in sources(package)
        if roots(imports(path)) & ENGINES
        and path.parent != PACKAGES["collab"] / "crdt"
        and path not in (notebook / "shape.py", notebook / "document.py")
    ]
    assert not offenders


@pytest.mark.parametrize(
    ("library", "module"),
    [("nbformat", "interchange"), ("jupyter_client", "ipython"), ("zmq", "ipython")],
)
def test_what_the_extra_notebook_brings_is_imported_by_one_module_and_only_when_it_runs(
    library: str, module: str
) -> None:
    importers = [path for path in sources("collab") if library in roots(imports(path))]
    assert {path.stem for path in importers} <= {module}
    assert not [p for p in importers if library in roots(imports(p, at_import_time=True))]


@pytest.mark.parametrize(
    ("library", "folder"), [("prompt_toolkit", "terminal"), ("textual", "editor")]
)
def test_only_one_folder_imports_what_draws_a_screen(library: str, folder: str) -> None:
    drawing = [path for path in sources("collab") if library in roots(imports(path))]
    assert {path.parent.name for path in drawing} == {folder}


@pytest.mark.parametrize(
    ("package", "users"),
    [("collab.terminal", {"terminal", "editor"}), ("collab.editor", {"editor"})],
)
def test_only_the_command_line_imports_what_is_for_people_at_a_terminal(
    package: str, users: set[str]
) -> None:
    offenders = [
        path
        for path in sources("collab")
        if any(module.startswith(package) for module in imports(path))
        and path.parent.name not in users
        and path.name != "cli.py"
    ]
    assert not offenders


def test_the_editor_can_be_asked_for_without_what_draws_it() -> None:
    """So that the command can say what to install."""
    editor = PACKAGES["collab"] / "editor"
    for name in ("__init__", "binding", "people", "run"):
        assert "textual" not in roots(imports(editor / f"{name}.py", at_import_time=True))


def test_the_relay_process_never_imports_an_engine() -> None:
    """Only the worker's own module may reach ``collab.crdt``."""
    offenders = [
        path
        for path in sources("collab_server")
        if any(module.startswith("collab.crdt") for module in imports(path))
        and path.name != "replica_worker.py"
    ]
    assert not offenders
