"""The three official layouts, as their publishers ship them: LibriSpeech, Common Voice and TED-LIUM 3.

Audio is encoded in memory and written by Python, because libsndfile reports a full disk as "System error" and Python
reports it as what it is.
"""

import hashlib
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import soundfile

from .resample import Samples
from .voices import ACCENTS, Voice

LIBRI_RATE = 16000
CV_RATE = 32000
TED_RATE = 16000

_AGES = ("", "teens", "twenties", "thirties", "fourties", "fifties", "sixties")  # "fourties" is Common Voice's spelling


def write_audio(path: Path, samples: Samples, rate: int, container: str, subtype: str) -> None:
    """Encode ``samples`` (mono, ``rate`` Hz) and write them to ``path``, making its folder.

    Raises:
        OSError: the file cannot be written, with the system's error number.
    """
    buffer = io.BytesIO()
    # For MP3 about 64 kbit/s, as Common Voice has; FLAC is lossless at every level, and SPHERE has no levels.
    level = 0.5 if container in ("MP3", "FLAC") else None
    soundfile.write(buffer, samples, rate, format=container, subtype=subtype, compression_level=level)
    write_bytes(path, buffer.getbuffer())


def write_bytes(path: Path, content: bytes | memoryview) -> None:
    """Write ``content`` to ``path``, making its folder; raises OSError naming the path when it cannot."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        path.write_bytes(content)
    except OSError as error:
        # A failed write, unlike a failed open, does not say which file it was.
        raise OSError(error.errno, error.strerror, str(path)) from error


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """Write ``lines`` as UTF-8, each ended by a newline."""
    write_bytes(path, "".join(f"{line}\n" for line in lines).encode())


class LibriSpeech:
    """``LibriSpeech/<split>/<speaker>/<chapter>/<speaker>-<chapter>-NNNN.flac``, ``.trans.txt``, ``SPEAKERS.TXT``."""

    def __init__(self, root: Path) -> None:
        self._root = root / "LibriSpeech"
        self._speakers: list[str] = []

    def chapter(self, split: str, speaker: int, chapter: int) -> "LibriChapter":
        """A chapter to add utterances to."""
        return LibriChapter(self._root / split / str(speaker) / str(chapter), f"{speaker}-{chapter}")

    def speaker(self, speaker: int, voice: Voice, split: str, seconds: float) -> None:
        """Enter a speaker in ``SPEAKERS.TXT``, with the seconds of speech that there are of them."""
        sex = "F" if voice.female else "M"
        self._speakers.append(f"{speaker:<5}| {sex} | {split:<16} | {seconds / 60:<5.2f} | eSpeak {voice.name}")

    def close(self) -> None:
        """Write ``SPEAKERS.TXT``."""
        head = ["; Synthetic voices, in the format of LibriSpeech's SPEAKERS.TXT", ";"]
        head.append(";ID  |SEX| SUBSET           |MINUTES| NAME")
        write_lines(self._root / "SPEAKERS.TXT", head + self._speakers)


class LibriChapter:
    """One chapter's folder: utterances numbered from 0000 and their transcript file."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder, self._name = folder, name
        self._lines: list[str] = []

    def add(self, samples: Samples, words: str) -> None:
        """Write the next utterance; ``words`` in any case, without punctuation."""
        name = f"{self._name}-{len(self._lines):04d}"
        write_audio(self._folder / f"{name}.flac", samples, LIBRI_RATE, "FLAC", "PCM_16")
        self._lines.append(f"{name} {words.upper()}")

    def close(self) -> None:
        """Write the transcript file."""
        write_lines(self._folder / f"{self._name}.trans.txt", self._lines)


class CommonVoice:
    """``cv-corpus-mini/en``: a tsv per split, ``validated.tsv`` with all of them, ``clip_durations.tsv``, ``clips``.

    As in the releases, fields are not quoted: a quotation mark in a sentence stands as it is.
    """

    _COLUMNS = (
        *("client_id", "path", "sentence_id", "sentence", "sentence_domain", "up_votes", "down_votes"),
        *("age", "gender", "accents", "variant", "locale", "segment"),
    )

    def __init__(self, root: Path) -> None:
        self._root = root / "cv-corpus-mini" / "en"
        self._rows: dict[str, list[str]] = {}
        self._durations: list[str] = []

    def add(self, split: str, voice: Voice, samples: Samples, sentence: str) -> None:
        """Write the next clip of ``split`` (mono at `CV_RATE`) and its row."""
        number = len(self._durations)
        clip = f"common_voice_en_{41_000_000 + 17 * number}.mp3"
        write_audio(self._root / "clips" / clip, samples, CV_RATE, "MP3", "MPEG_LAYER_III")
        client = hashlib.sha512(voice.name.encode()).hexdigest()
        gender = "female_feminine" if voice.female else "male_masculine"
        fields = (
            client,
            clip,
            hashlib.sha256(sentence.encode()).hexdigest(),
            sentence,
            "general" if number % 5 == 0 else "",
            str(2 + number % 3),
            str(number % 2),
            _AGES[int(client[:8], 16) % len(_AGES)],
            gender,
            ACCENTS[voice.accent],
            "",
            "en",
            "",
        )
        self._rows.setdefault(split, []).append("\t".join(fields))
        self._durations.append(f"{clip}\t{round(1000 * len(samples) / CV_RATE)}")

    def close(self) -> None:
        """Write the tsv files."""
        header = "\t".join(self._COLUMNS)
        for split, rows in self._rows.items():
            write_lines(self._root / f"{split}.tsv", [header, *rows])
        everything = [row for rows in self._rows.values() for row in rows]
        write_lines(self._root / "validated.tsv", [header, *everything])
        write_lines(self._root / "clip_durations.tsv", ["clip\tduration[ms]", *self._durations])


@dataclass
class Talk:
    """A TED-LIUM talk in the making: samples in order, and the STM lines that point into them.

    Attributes:
        name: the talk, and the name of its files.
        voice: who speaks.
    """

    name: str
    voice: Voice
    _pieces: list[Samples] = field(default_factory=list)
    _lines: list[str] = field(default_factory=list)
    _length: int = 0

    def gap(self, samples: Samples) -> None:
        """Time that belongs to no segment, marked as the corpus marks it."""
        begin, end = self._append(samples)
        labels = "<o,,unknown>"
        self._lines.append(f"{self.name} 1 inter_segment_gap {begin} {end} {labels} ignore_time_segment_in_scoring")

    def segment(self, samples: Samples, text: str) -> float:
        """A segment; ``text`` in the corpus's spelling, or ``ignore_time_segment_in_scoring`` without a transcript.

        Returns its seconds.
        """
        begin, end = self._append(samples)
        labels = f"<o,f0,{'female' if self.voice.female else 'male'}>"
        self._lines.append(f"{self.name} 1 {self.name} {begin} {end} {labels} {text}")
        return float(end) - float(begin)

    def pause(self, samples: Samples) -> None:
        """Time between two segments that no line mentions."""
        self._append(samples)

    def _append(self, samples: Samples) -> tuple[str, str]:
        # STM times have two decimals: whole hundredths, so that the times written are the times cut.
        step = TED_RATE // 100
        samples = samples[: len(samples) // step * step]
        begin, self._length = self._length, self._length + len(samples)
        self._pieces.append(samples)
        return f"{begin / TED_RATE:.2f}", f"{self._length / TED_RATE:.2f}"

    @property
    def seconds(self) -> float:
        """How long the talk is by now."""
        return self._length / TED_RATE

    def write(self, root: Path, split: str) -> None:
        """Write ``sph/<name>.sph`` (NIST SPHERE) and ``stm/<name>.stm`` under ``TEDLIUM_release-3/legacy/<split>``."""
        folder = root / "TEDLIUM_release-3" / "legacy" / split
        samples = np.concatenate(self._pieces)
        write_audio(folder / "sph" / f"{self.name}.sph", samples, TED_RATE, "NIST", "PCM_16")
        write_lines(folder / "stm" / f"{self.name}.stm", self._lines)


def ted_text(words: Sequence[str], variants: Sequence[bool]) -> str:
    """Words in TED-LIUM's spelling: clitics split off (``it 's``), a pronunciation number where ``variants`` says."""
    marked = (f"{word}(2)" if variant else word for word, variant in zip(words, variants, strict=True))
    return " ".join(word.replace("'", " '") for word in marked)
