"""What counts as a file of a corpus."""

from pathlib import Path

import pytest

from audio_lottery.data.walk import is_hidden, visible


@pytest.mark.parametrize(
    ("name", "hidden"),
    [
        ("a.wav", False),
        ("a/b.c/d.wav", False),
        ("a/..b.wav", True),
        ("._a.wav", True),
        (".DS_Store", True),
        ("a/.cache/b.wav", True),
        ("__MACOSX/a.wav", True),
        ("a/__MACOSX/b.wav", True),
        ("a__MACOSX.wav", False),
        ("", False),
    ],
)
def test_hidden(name: str, hidden: bool) -> None:
    assert is_hidden(name) == hidden
    assert is_hidden(Path(name)) == hidden


def test_visible_is_sorted_and_does_not_mind_a_hidden_folder_above(tmp_path: Path) -> None:
    folder = tmp_path / ".cache"
    for name in ("b/a.wav", "a.wav", "._a.wav", "__MACOSX/a.wav", "b/.x/c.wav", "b/a.txt"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    assert visible(folder, "**/*.wav") == [folder / "a.wav", folder / "b" / "a.wav"]
    assert visible(folder, "*.wav") == [folder / "a.wav"]
    assert visible(folder / "none", "*") == []
