"""Small corpora in the layouts of the real ones, in memory and on disk."""

import io
import tarfile
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import soundfile as sf

from audio_lottery.data.corpora.mini.voices import Voice
from audio_lottery.data.corpora.mini.writers import CommonVoice, LibriSpeech, Talk
from audio_lottery.data.manifest import Utterance

RATE = 16_000
VOICES = (Voice("en-us+m1", 50, 150), Voice("en-us+f2", 50, 150))


def noise(seconds: float, seed: int = 0, channels: int = 1, rate: int = RATE) -> np.ndarray:
    """Quiet noise: float32 ``[samples]`` or ``[samples, channels]``."""
    shape = (round(seconds * rate), channels) if channels > 1 else round(seconds * rate)
    return np.random.default_rng(seed).normal(scale=0.05, size=shape).astype(np.float32)


def write_wav(path: Path, seconds: float = 0.5, rate: int = RATE, channels: int = 1) -> Path:
    """A WAV file, its folder made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    sf.write(path, noise(seconds, channels=channels, rate=rate), rate)
    return path


def rows(files: Iterable[Path], corpus: str, seconds: float = 0.5) -> Iterator[Utterance]:
    """Whole files as utterances."""
    for file in files:
        yield Utterance(file.stem, str(file), 0.0, seconds, "SOME WORDS", "s", seconds, corpus)


def libri(root: Path, splits: Iterable[str] = ("dev-clean",), utterances: int = 3) -> Path:
    """``root/LibriSpeech`` with one chapter a split."""
    corpus = LibriSpeech(root)
    for speaker, split in enumerate(splits, start=10):
        chapter = corpus.chapter(split, speaker, 7)
        for number in range(utterances):
            chapter.add(noise(0.5, number), "some words")
        chapter.close()
        corpus.speaker(speaker, VOICES[0], split, 0.5 * utterances)
    corpus.close()
    return root / "LibriSpeech"


def common_voice(root: Path) -> Path:
    """``root/cv-corpus-mini/en`` with train and test."""
    corpus = CommonVoice(root)
    for number, split in enumerate(("train", "train", "test")):
        corpus.add(split, VOICES[number % 2], noise(0.5, number, rate=32_000), "" if number == 1 else "Some words.")
    corpus.close()
    return root / "cv-corpus-mini"


def ted(root: Path) -> Path:
    """``root/TEDLIUM_release-3``: dev and test in legacy, their talks as links into data, as the archive has them."""
    for number, split in enumerate(("train", "dev", "test")):
        talk = Talk(f"Talk{number}_2009", VOICES[0])
        talk.segment(noise(0.5), "it 's")
        talk.segment(noise(0.5), "some words")
        talk.write(root, split)
    legacy = root / "TEDLIUM_release-3" / "legacy"
    for split in ("train", "dev", "test"):
        for kind in ("sph", "stm"):
            for file in (legacy / split / kind).iterdir():
                target = root / "TEDLIUM_release-3" / "data" / kind / file.name
                target.parent.mkdir(parents=True, exist_ok=True)
                file.rename(target)
                file.symlink_to(Path("../../../data", kind, file.name))
    return root / "TEDLIUM_release-3"


def packed(folder: Path, ending: str = ".tar.gz") -> bytes:
    """An archive of a folder, the folder's own name on top."""
    buffer = io.BytesIO()
    if ending == ".zip":
        with zipfile.ZipFile(buffer, "w") as archive:
            for file in sorted(folder.rglob("*")):
                archive.write(file, file.relative_to(folder.parent))
    else:
        with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
            tar.add(folder, folder.name)
    return buffer.getvalue()
