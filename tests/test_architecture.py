"""Imports point down only, as docs/architecture.md says."""

import ast
from pathlib import Path

import pytest

import audio_lottery

FLOORS = [
    {"errors"},
    {"storage"},
    {"config"},
    {"shipped"},
    {"settings"},
    {"processes"},
    {"data", "pruning"},
    {"sparse"},
    {"models"},
    {"evaluation"},
    {"training"},
    {"lottery"},
    {"report"},
    {"commands"},
    {"cli"},
]
PACKAGE = Path(audio_lottery.__file__).parent
FILES = [path for path in sorted(PACKAGE.rglob("*.py")) if path != PACKAGE / "__init__.py"]


def floor(room: str) -> int:
    return next(level for level, rooms in enumerate(FLOORS) if room in rooms)


def rooms_imported(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names = [node.module] + [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        for name in names:
            parts = name.split(".")
            if parts[0] == "audio_lottery" and len(parts) > 1 and not parts[1].startswith("__"):
                found.add(parts[1])
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down(path):
    room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    wrong = {other for other in rooms_imported(path) if other != room and floor(other) >= floor(room)}
    assert not wrong, f"{room} is not above {wrong}"


def test_pruning_knows_nothing_of_speech():
    for path in (PACKAGE / "pruning").glob("*.py"):
        assert rooms_imported(path) <= {"pruning", "errors", "storage"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_file_is_long(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400
