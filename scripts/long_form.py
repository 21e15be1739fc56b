"""Utterances of a corpus joined into one long recording: what becomes of it, beside the utterances one by one.

    python scripts/long_form.py --model runs/conformer_mini/round_00                    # an hour of the demo's speech
    python scripts/long_form.py --model MODEL --corpus jsonl --path an4 --split test.jsonl --minutes 20 --gap 0.3

The utterances follow one another, again and again until the time is filled, with --gap seconds between them: of their
own background (the quietest tenth of a second), so that the gap is no digital silence. WER is counted on all
words as one text; a word that is lost or doubled where windows meet is an error there and none one by one.
"""

import argparse
import itertools
import resource
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import soundfile

from audio_lottery.cli import run
from audio_lottery.config import CorpusConfig
from audio_lottery.data.audio import SAMPLE_RATE, read_audio
from audio_lottery.data.corpora.load import load_manifest
from audio_lottery.data.text import get_normalizer
from audio_lottery.errors import ModelError
from audio_lottery.evaluation.alignment import DELETION, HIT, INSERTION, align
from audio_lottery.transcribe import Recogniser, Recording, Transcript

_TENTH = SAMPLE_RATE // 10


@dataclass(frozen=True)
class Joined:
    """A long recording.

    Attributes:
        path: of the file.
        rows: rows of the manifest, in the order in which they are in it.
        seconds: its length.
    """

    path: Path
    rows: list[int]
    seconds: float


def main() -> None:
    """Join, transcribe twice, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="folder or Hub id")
    parser.add_argument("--corpus", default="mini-ted")
    parser.add_argument("--split", default="test")
    parser.add_argument("--path", default="", help="folder of the corpus")
    parser.add_argument("--minutes", type=float, default=60.0, help="of the long recording (default: 60)")
    parser.add_argument("--gap", type=float, default=0.0, help="seconds between utterances (default: 0)")
    parser.add_argument("--normalizer", default="basic", help="of the words that are compared (default: basic)")
    parser.add_argument("--threads", type=int, default=1)
    windows = parser.add_argument_group("windows", "(default: those that the model is given by `transcribe`)")
    windows.add_argument("--longest", type=float, help="seconds of a window at most")
    windows.add_argument("--sentence", type=float, help="seconds of silence that always cut")
    windows.add_argument("--shortest", type=float, help="behind which shorter ones may")
    windows.add_argument("--overlap", type=float, help="seconds shared without a pause")
    options = parser.parse_args()

    manifest = load_manifest([CorpusConfig(options.corpus, options.split, options.path)], Path())
    recogniser = Recogniser.load(options.model, threads=options.threads)
    names = ("sentence", "shortest", "overlap")
    given = {name: value for name in names if (value := getattr(options, name)) is not None}
    windowing = replace(recogniser.windowing(options.longest), **given)
    normalize = get_normalizer(options.normalizer)

    def audio(row: int) -> np.ndarray:
        return read_audio(manifest[row]["audio"], manifest[row]["start"], manifest[row]["end"])

    sources = (Recording(audio(row)) for row in range(len(manifest)))
    short = [normalize(text_of(found)).split() for found in recogniser.transcribe_all(sources)]
    with tempfile.TemporaryDirectory() as folder:
        joined = join(manifest, audio, options.minutes * 60, options.gap, Path(folder) / "long.flac")
        before = peak_memory()
        begin = time.perf_counter()
        found = recogniser.transcribe(joined.path, windowing=windowing)
        taken, after = time.perf_counter() - begin, peak_memory()
    said = [word for row in joined.rows for word in normalize(manifest[row]["text"]).split()]
    one_by_one = [word for row in joined.rows for word in short[row]]
    at_once = normalize(found.text).split()
    print(f"{len(joined.rows)} utterances ({len(manifest)} different ones), {joined.seconds:.0f} s, {len(said)} words")
    print(f"one by one   WER {errors(said, one_by_one)}")
    print(f"as one file  WER {errors(said, at_once)}")
    print(f"one file against one by one: {errors(one_by_one, at_once)}")
    print(f"{joined.seconds / taken:.0f} x real time ({taken:.1f} s, {options.threads} threads)")
    print(f"peak memory: {before:.0f} MiB before the long file, {after:.0f} MiB after it")


def text_of(found: object) -> str:
    """What was said in an utterance of a corpus, which can be read."""
    if not isinstance(found, Transcript):
        raise ModelError(f"an utterance was not transcribed: {found}")
    return found.text


def join(manifest, audio, seconds: float, gap: float, path: Path) -> Joined:  # type: ignore[no-untyped-def]
    """Write the long recording, piece by piece."""
    rows: list[int] = []
    written = 0
    with soundfile.SoundFile(path, "w", SAMPLE_RATE, 1) as file:
        for row in itertools.cycle(range(len(manifest))):
            if written >= seconds * SAMPLE_RATE:
                break
            for piece in with_gap(audio(row), round(gap * SAMPLE_RATE)):
                file.write(piece)
                written += len(piece)
            rows.append(row)
    return Joined(path, rows, written / SAMPLE_RATE)


def with_gap(samples: np.ndarray, gap: int) -> Iterator[np.ndarray]:
    """An utterance, and a gap that sounds as its quietest tenth of a second, forth and back."""
    yield samples
    frames = samples[: len(samples) // _TENTH * _TENTH].reshape(-1, _TENTH)
    if gap and len(frames):
        quiet = frames[np.square(frames).mean(axis=1).argmin()]
        yield np.resize(np.concatenate([quiet, quiet[::-1]]), gap)


def errors(reference: list[str], hypothesis: list[str]) -> str:
    """Error rate and counts of one long text."""
    operations = align([reference], [hypothesis])[0]
    wrong = int((operations != HIT).sum())
    lost, added = int((operations == DELETION).sum()), int((operations == INSERTION).sum())
    return f"{100 * wrong / len(reference):.2f} % ({wrong} errors: {lost} words less, {added} more)"


def peak_memory() -> float:
    """Highest resident memory of this process so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    raise SystemExit(run(main))
