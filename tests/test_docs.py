"""The documents are whole: every page is linked, and every link, path and name in them leads somewhere."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import audio_lottery

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
DOCUMENTS = [*PAGES, ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]
SOURCES = [
    path
    for folder in ("audio_lottery", "recipes", "scripts")
    for path in (ROOT / folder).rglob("*")
    if path.suffix in (".py", ".yaml")
]

_FENCE = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[(?:[^\[\]]|\[[^\]]*\])*\]\(<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\)")
_PATH = re.compile(r"(?<![\w./-])(?:docs|recipes|scripts|tests|audio_lottery)/[\w./*-]*[\w*]")


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def links(path: Path) -> list[str]:
    """Targets of the links and images of a page, code left out."""
    prose = re.sub(r"`[^`\n]*`", "", _FENCE.sub("", path.read_text(encoding="utf-8")))
    return [target for target in _LINK.findall(prose) if not re.match(r"(https?|mailto):", target)]


def anchors(path: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and the site make them."""
    found: set[str] = set()
    for heading in re.findall(r"^#+ (.+)$", _FENCE.sub("", path.read_text(encoding="utf-8")), re.MULTILINE):
        words = re.sub(r"[^\w\- ]", "", re.sub(r"\]\([^)]*\)", "", heading).strip().lower())
        found.add(words.replace(" ", "-"))
    return found


def broken(path: Path) -> Iterator[str]:
    """What is wrong with the relative links of a page."""
    for target in links(path):
        file, _, anchor = target.partition("#")
        there = (path.parent / file).resolve() if file else path
        if not there.exists():
            yield f"{target}: no such file"
        elif DOCS in path.parents and not there.is_relative_to(DOCS):
            yield f"{target}: outside docs/, so not on the site"
        elif anchor and anchor not in anchors(there):
            yield f"{target}: no such heading"


@pytest.mark.parametrize("path", DOCUMENTS, ids=name)
def test_every_link_resolves(path):
    assert not list(broken(path))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[a](gone.md)", "gone.md: no such file"),
        ("![a](gone.png)", "gone.png: no such file"),
        ("[a](index.md#gone)", "index.md#gone: no such heading"),
        ("[a](#gone)", "#gone: no such heading"),
        ("[a](../README.md)", "../README.md: outside docs/, so not on the site"),
        ("# A `b`, c – d\n[a](#a-b-c--d) [`x`](text.md) [e](https://example.com/gone) `[a](gone.md)`", None),
        ("```\n[a](gone.md)\n# gone\n```", None),
    ],
)
def test_broken_links_are_found(text, complaint, tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "DOCS", tmp_path / "docs")
    (tmp_path / "docs").mkdir()
    (tmp_path / "README.md").write_text("# There")
    for file in ("index.md", "text.md"):
        (tmp_path / "docs" / file).write_text("# There")
    page = tmp_path / "docs" / "page.md"
    page.write_text(text)
    assert list(broken(page)) == ([] if complaint is None else [complaint])


def test_the_index_links_every_page():
    linked = {(DOCS / target.partition("#")[0]).resolve() for target in links(DOCS / "index.md")}
    assert {name(page) for page in PAGES} - {name(page) for page in linked} == {"docs/index.md"}


def test_the_site_has_every_page():
    listed = re.findall(r"[\w/-]+\.md", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    assert sorted(listed) == sorted(page.relative_to(DOCS).as_posix() for page in PAGES)


def test_the_reference_has_every_room():
    reference = "\n".join(page.read_text(encoding="utf-8") for page in DOCS.glob("api/*.md"))
    described = re.findall(r"^::: ([\w.]+)", reference, re.MULTILINE)
    for module in described:
        place = ROOT / module.replace(".", "/")
        assert place.with_suffix(".py").is_file() or (place / "__init__.py").is_file(), module
    rooms = {path.parent.name for path in Path(audio_lottery.__file__).parent.glob("*/__init__.py")}
    assert rooms - {module.split(".")[1] for module in described} == {"commands"}


def test_paths_that_are_named_exist():
    texts = {path: path.read_text(encoding="utf-8") for path in [*DOCUMENTS, *SOURCES]}
    named = {place: path for path, text in texts.items() for place in _PATH.findall(text)}
    assert named
    missing = {place: name(path) for place, path in named.items() if not any(ROOT.glob(place))}
    assert not missing


def test_the_changelog_begins_with_this_version():
    first = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert first is not None
    assert first[1] == audio_lottery.__version__


def test_make_lists_its_targets():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = re.search(r"^\.PHONY: (.+)$", makefile, re.MULTILINE)
    assert targets is not None
    command = ["make", "--no-print-directory"]
    shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert re.findall(r"^  make ([\w-]+) +\S", shown, re.MULTILINE) == targets[1].split()
