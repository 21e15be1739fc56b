"""The synthesising process: makes one mini corpus, in a fixed order, and says on stdout how far it is.

Started by `prepare_mini` and never imported by it: eSpeak (GPL) lives and dies here. It imports neither torch nor
transformers nor datasets, for they take longer to import than a corpus takes to make.
"""

import argparse
import json
import random
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from .espeak import Espeak
from .grammar import SEED, SLOTS, Sentences, pick, plain
from .resample import Samples, Signal, level, noise, resample, to_pcm, trim
from .voices import CV_SPEAKERS, LIBRI, TED, TED_MORE, Voice, cv_voices, table_voices
from .writers import CV_RATE, LIBRI_RATE, TED_RATE, CommonVoice, LibriSpeech, Talk, ted_text

LIBRI_COUNTS = {"train-clean": 1440, "dev-clean": 80, "test-clean": 80}
CV_COUNTS = {"train": 500, "dev": 60, "test": 60}
TED_COUNTS = {"train": 736, "dev": 81, "test": 120}
TED_MORE_COUNTS = {"dev": 400}
_CHAPTERS = 2
_RMS = 2400.0  # 16-bit units: about -23 dB of full scale
# Power of the room noise in 16-bit units: 56 to 38 dB below the speech, 38 to 18 and 48 to 32.
_LIBRI_ROOMS = (4, 10, 30)
_CV_ROOMS = (30, 120, 300)
_TED_ROOMS = (10, 30, 60)


class Studio:
    """Records sentences: eSpeak, trimmed, resampled, levelled, in a room with some noise.

    Args:
        rate: of the recordings, in Hz.
        seed: of the pauses, levels and noise.
        tick: called after each recording.
    """

    def __init__(self, rate: int, seed: int, tick: Callable[[], None]) -> None:
        self.rng = random.Random(seed)
        self._espeak, self._rate, self._tick = Espeak(), rate, tick
        self._colour, self._noise_rms = "white", 10

    def enter(self, rooms: Sequence[int]) -> None:
        """Record in another room from now on: its noise has one of the powers ``rooms``."""
        self._colour, self._noise_rms = pick(self.rng, ("white", "pink", "pink")), pick(self.rng, rooms)

    def _noise(self, count: int) -> Signal:
        return noise(self._colour, int(self.rng.random() * 1_000_000), count) * self._noise_rms

    def use(self, voice: Voice) -> None:
        """Record ``voice`` from now on."""
        self._voice = voice
        self._espeak.use(voice)

    def room(self, low: float, high: float) -> Signal:
        """Between ``low`` and ``high`` seconds of nobody speaking."""
        seconds = low + (high - low) * self.rng.random()
        return self._noise(int(seconds * self._rate))

    def speech(self, sentence: str, loudness: float = 1.0) -> Signal:
        """``sentence`` as said by the current voice, in a mood of the moment, with no silence around it."""
        pitch, rate = pick(self.rng, range(-4, 5)), pick(self.rng, range(-6, 7))
        self._espeak.prosody(self._voice.pitch + pitch, self._voice.rate + rate)
        spoken = level(resample(trim(self._espeak.say(sentence)), self._espeak.rate, self._rate), _RMS * loudness)
        self._tick()
        return spoken + self._noise(len(spoken))

    def take(self, sentence: str, loudness: float = 1.0) -> Samples:
        """``sentence`` with a tenth to a quarter of a second of room on either side."""
        return to_pcm(np.concatenate([self.room(0.10, 0.25), self.speech(sentence, loudness), self.room(0.10, 0.25)]))


def make_libri(root: Path, limit: int, tick: Callable[[], None]) -> dict[str, float]:
    """Write mini-libri; at most ``limit`` utterances per chapter. Returns the hours by split."""
    studio, sentences, writer = Studio(LIBRI_RATE, SEED, tick), Sentences(SEED), LibriSpeech(root)
    hours: dict[str, float] = {}
    speaker = 100
    for split, voices in table_voices(LIBRI, 0).items():
        each = LIBRI_COUNTS[split] // len(voices) // _CHAPTERS
        for voice in voices:
            speaker += 7
            studio.use(voice)
            seconds = 0.0
            for number in range(_CHAPTERS):
                chapter = writer.chapter(split, speaker, 120_000 + 10 * speaker + number)
                for _ in range(min(each, limit)):
                    sentence = sentences.draw()
                    studio.enter(_LIBRI_ROOMS)
                    samples = studio.take(sentence)
                    chapter.add(samples, plain(sentence))
                    seconds += len(samples) / LIBRI_RATE
                chapter.close()
            writer.speaker(speaker, voice, split, seconds)
            hours[split] = hours.get(split, 0.0) + seconds / 3600
    writer.close()
    return hours


def make_cv(root: Path, limit: int, tick: Callable[[], None]) -> dict[str, float]:
    """Write mini-cv; at most ``limit`` clips per speaker. Returns the hours by split."""
    studio, sentences, writer = Studio(CV_RATE, SEED + 1, tick), Sentences(SEED + 1), CommonVoice(root)
    hours: dict[str, float] = {}
    for split, voices in cv_voices().items():
        for voice in voices:
            studio.use(voice)
            for _ in range(min(CV_COUNTS[split] // CV_SPEAKERS[split], limit)):
                sentence = sentences.draw()
                studio.enter(_CV_ROOMS)
                samples = studio.take(sentence, 0.4 + 0.9 * studio.rng.random())
                writer.add(split, voice, samples, sentence)
                hours[split] = hours.get(split, 0.0) + len(samples) / CV_RATE / 3600
    writer.close()
    return hours


def _talk_segment(studio: Studio, first: str, second: str | None) -> tuple[Samples, str]:
    """One or two sentences as a segment with TED-LIUM's markup: samples and text."""
    rng = studio.rng
    pieces = [studio.room(0.08, 0.15)]
    texts: list[str] = []
    for sentence in (first, second):
        if sentence is None:
            continue
        if texts:
            pieces.append(studio.room(0.25, 0.5))
            texts.append("<sil>")
        pieces.append(studio.speech(sentence))
        words = plain(sentence).split()
        texts.append(ted_text(words, [word in ("the", "a", "and", "of") and rng.random() < 0.1 for word in words]))
    if rng.random() < 0.1:
        # A knock or a breath: the room noise, louder, swelling and dying away.
        burst = studio.room(0.15, 0.3)
        swell = np.minimum(np.arange(len(burst)), np.arange(len(burst))[::-1]) / len(burst)
        pieces.append(burst * (1 + 5 * swell))
        texts.append("{NOISE}")
    pieces.append(studio.room(0.08, 0.15))
    return to_pcm(np.concatenate(pieces)), " ".join(texts)


def make_ted(root: Path, limit: int, tick: Callable[[], None]) -> dict[str, float]:
    """Write mini-ted; at most ``limit`` segments per talk. Returns the hours by split."""
    studio, sentences = Studio(TED_RATE, SEED + 2, tick), Sentences(SEED + 2)
    rng = studio.rng
    hours: dict[str, float] = {}
    number = 0
    talks = [(TED_COUNTS, item) for item in table_voices(TED, 1).items()]
    talks += [(TED_MORE_COUNTS, item) for item in table_voices(TED_MORE, 3).items()]
    for counts, (split, voices) in talks:
        for voice in voices:
            number += 1
            studio.use(voice)
            studio.enter(_TED_ROOMS)
            talk = Talk(f"{pick(rng, SLOTS['month'])}{number:02d}_{2001 + number % 17}", voice)
            talk.gap(to_pcm(studio.room(1.0, 3.0)))
            count = min(counts[split] // len(voices), limit)
            for index in range(count):
                if index == count // 2:
                    talk.segment(to_pcm(studio.speech(sentences.draw())), "ignore_time_segment_in_scoring")
                if index % 10 == 7:
                    samples, text = _talk_segment(studio, sentences.draw_short(), None)
                else:
                    samples, text = _talk_segment(
                        studio, sentences.draw(), sentences.draw() if index % 8 == 2 else None
                    )
                hours[split] = hours.get(split, 0.0) + talk.segment(samples, text) / 3600
                pause = to_pcm(studio.room(0.1, 0.9))
                if len(pause) >= TED_RATE // 2:
                    talk.gap(pause)
                else:
                    talk.pause(pause)
            talk.write(root, split)
    return hours


MAKERS = {"mini-libri": make_libri, "mini-cv": make_cv, "mini-ted": make_ted}


def main() -> None:
    """Make the corpus named on the command line. Prints a dot per recording, then the hours as one line of JSON.

    Exits with status 3, and the error as JSON on stderr, when a file cannot be written.
    """
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("corpus", choices=MAKERS)
    parser.add_argument("root", type=Path)
    parser.add_argument("--limit", type=int, default=1_000_000, help="utterances per chapter, speaker or talk")
    arguments = parser.parse_args()

    def tick() -> None:
        sys.stdout.write(".\n")
        sys.stdout.flush()

    try:
        hours = MAKERS[arguments.corpus](arguments.root, arguments.limit, tick)
    except BrokenPipeError:
        sys.exit("the process that asked for the corpora has ended")
    except OSError as error:
        print(json.dumps([error.errno, error.strerror, error.filename]), file=sys.stderr)
        sys.exit(3)
    print(json.dumps(hours))


if __name__ == "__main__":
    main()
