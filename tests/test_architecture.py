"""Imports point down only, as docs/architecture.md says."""

import ast
import re
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
    {"training", "transcribe", "export"},
    {"lottery"},
    {"report"},
    {"grid", "publish"},
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


def test_no_file_is_long():
    root = Path(__file__).parents[1]
    others = [path for room in ("recipes", "scripts", "tests") for path in sorted((root / room).rglob("*.py"))]
    lengths = {str(path): len(path.read_text(encoding="utf-8").splitlines()) for path in [*FILES, *others]}
    assert len(lengths) > len(FILES)
    assert not {path: lines for path, lines in lengths.items() if lines > 400}


# What only a backbone may know: classes of recognisers, the blank, how long a frame is. The benchmark's subject and the
# runners of sparse inference are made for single architectures, and the file format asks transformers for a class.
KNOWS_MODELS = {"models", "sparse"}
GIVEN_AWAY = re.compile(
    r"\b(?:Wav2Vec2|Hubert|WavLM|Parakeet|Conformer|CnnLstm|Whisper)\w*\b(?!-)|\bctc_\w+|\w+For[A-Z]\w+|samples\s*//"
)


@pytest.mark.parametrize(
    "path",
    [path for path in FILES if path.relative_to(PACKAGE).parts[0] not in KNOWS_MODELS],
    ids=lambda path: path.stem,
)
def test_only_models_know_a_class_or_a_frame_rate(path):
    """Names in code; docstrings, comments and messages may speak of them."""
    code = ast.unparse(_without_docstrings(ast.parse(path.read_text(encoding="utf-8"))))
    found = {match for line in code.splitlines() for match in GIVEN_AWAY.findall(re.sub(r"([\"']).*?\1", "", line))}
    assert not found, f"{path.name} knows {found}"


def _without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return tree


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_function_has_many_parameters(path):
    if "kernels" in path.parts:  # flat arrays in and out
        return
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            names = [argument.arg for argument in (*node.args.args, *node.args.kwonlyargs)]
            count = len([name for name in names if name not in ("self", "cls")])
            assert count <= 8, f"{node.name} has {count} parameters"


def test_test_files_have_different_names():
    """pytest imports them by their base names: of two that are alike, it runs one and calls the other an error."""
    names = [path.name for path in Path(__file__).parent.rglob("test_*.py")]
    assert sorted(names) == sorted(set(names))
