"""The house: which room may know of which, and what importing handful costs."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "src" / "handful"

# From the ground up: a room imports only from rooms before it, and from its own.
ROOMS = [
    "functional",
    "encoders",
    "datasets",
    "features",
    "task",
    "methods",
    "tuning",
    "selection",
    "evaluation",
    "report",
    "classifier",
    "benchmark",
    "examples",
    "cli",
]
EVERYWHERE = {"errors", "paths", "progress"}
MODULES = sorted(PACKAGE.rglob("*.py"))


def name_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Line and full name of everything imported, also inside functions and for type checkers."""
    package = name_of(path) if path.name == "__init__.py" else name_of(path).rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, *([base] if base else [])])
            # ``from handful import x`` may name a room.
            for alias in node.names:
                yield node.lineno, f"{base}.{alias.name}"
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("import_module",):
            for argument in node.args[:1]:
                if isinstance(argument, ast.Constant):
                    yield node.lineno, str(argument.value)


def room_of(name: str) -> str | None:
    """The room that a full name of handful lies in; None for the package itself and others."""
    parts = name.split(".")
    if parts[0] != "handful" or len(parts) < 2:
        return None
    known = parts[1] in ROOMS or parts[1] in EVERYWHERE
    return parts[1] if known or (PACKAGE / parts[1]).is_dir() else None


def test_every_room_has_its_place() -> None:
    found = {room for path in MODULES if (room := room_of(name_of(path)))}
    modules = {p.stem for p in PACKAGE.glob("*.py")} - {"__init__", "__main__"}
    unknown = (found | modules) - {*ROOMS, *EVERYWHERE}
    assert not unknown, f"give {unknown} a place in the order of rooms"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_only_from_rooms_before(path: Path) -> None:
    own = room_of(name_of(path))
    if own is None:
        pytest.skip("the package itself, which shows every room lazily")
    before = [] if own in EVERYWHERE else ROOMS[: ROOMS.index(own) + 1]
    allowed = {*before, *EVERYWHERE}
    for line, name in imports(path):
        room = room_of(name)
        assert room is None or room in allowed, f"{path}:{line}: {own} may not import {name}"
        # ``from handful import select`` would hide which room is meant.
        lazily = name.split(".")[0] == "handful" and room is None
        assert not lazily or name == "handful.__version__", f"{path}:{line}: name the room"


def test_the_order_is_really_checked() -> None:
    """The encoders know nothing of data sets, nor the equations of anything."""
    assert ROOMS.index("encoders") < ROOMS.index("datasets")
    of_functional = {
        name.split(".")[0]
        for path in (PACKAGE / "functional").glob("*.py")
        for _, name in imports(path)
    }
    assert of_functional - set(sys.stdlib_module_names) <= {"handful", "torch", "numpy", "scipy"}
    some = {room_of(name) for _, name in imports(PACKAGE / "selection/select.py")}
    assert {"errors", "methods", "selection", "task"} <= some


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_no_torchvision_and_nothing_pickled(path: Path) -> None:
    for line, name in imports(path):
        top = name.split(".")[0]
        assert top not in {
            "torchvision",
            "pickle",
            "cPickle",
            "dill",
            "cloudpickle",
            "joblib",
            "shelve",
            "marshal",
        }, f"{path}:{line}"
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load":
            given = {k.arg: ast.unparse(k.value) for k in node.keywords}
            assert given.get("weights_only") == "True", f"{path}:{node.lineno}"
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("np.load", "numpy.load"):
            given = {k.arg: ast.unparse(k.value) for k in node.keywords}
            assert given.get("allow_pickle", "False") == "False", f"{path}:{node.lineno}"


HEAVY = ("torch", "transformers", "sklearn")


@pytest.mark.parametrize("module", ["handful", "handful.cli.main"])
def test_importing_is_light(module: str) -> None:
    """What takes seconds to import is imported by the verb that needs it."""
    code = f"import sys, {module}; print(*[m for m in {HEAVY} if m in sys.modules])"
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert found.stdout.split() == []


def test_names_of_the_package_can_all_be_had() -> None:
    """Each is imported at first use; a wrong home would show only then."""
    import handful

    assert set(handful.__all__) <= set(dir(handful))
    for name in handful.__all__:
        assert getattr(handful, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = handful.nothing
