"""What a service on this CPU takes: WER, bytes on disk, real-time factor and memory, of a model and its ticket.

    audio-lottery compress runs/quick_conformer_mini/round_01 ticket
    python scripts/deploy_table.py runs/quick_conformer_mini/round_00 ticket --test mini-ted:test \\
        --calibration mini-ted:train --json deploy.json

    audio-lottery compress runs/whisper_tiny/round_04 ticket
    python scripts/deploy_table.py runs/whisper_tiny/round_00 ticket --test speech/test.jsonl --json deploy.json

Contestants: the model on torch in float32; exported to OpenVINO in float32 and int8 where it is one graph, or, a
Whisper, converted for CTranslate2 in float32 and int8; the ticket on `Recogniser`, in every precision that this machine
has. A Whisper's utterances fit its window; longer ones are left out. Each transcribes the same utterances twice, one
request after the other, in a process of its own with so many threads: the first pass is that of a service that has just
started.
The processes take turns, and --repeats times each is started anew; times are those of the fastest, memory is the
median. WER is of the texts that were written while the time was taken. RTF is seconds for a second of audio, by the
clock and of the processor.
"""

import argparse
import importlib.util
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm
from transformers.utils import SAFE_WEIGHTS_NAME

from audio_lottery.cli import run
from audio_lottery.commands.export import speech
from audio_lottery.config import CorpusConfig, ModelConfig
from audio_lottery.data.audio import SAMPLE_RATE, read_audio
from audio_lottery.data.corpora.load import load_manifest
from audio_lottery.data.manifest import iterate
from audio_lottery.data.text import get_normalizer
from audio_lottery.errors import AudioLotteryError, ConfigError, RunError
from audio_lottery.evaluation.wer import evaluate_texts
from audio_lottery.export import export
from audio_lottery.models.base import Backbone
from audio_lottery.models.load import load_trained
from audio_lottery.models.whisper import Whisper
from audio_lottery.settings import named_corpus, read_config
from audio_lottery.sparse.benchmark.contestants import EXTRA
from audio_lottery.sparse.benchmark.interleaved import load_before
from audio_lottery.sparse.benchmark.settings import CTRANSLATE2, check_threads
from audio_lottery.sparse.benchmark.whisper_contestants import convert, prompt_of
from audio_lottery.sparse.format import FILE as SPARSE_FILE
from audio_lottery.sparse.precision import PRECISIONS
from audio_lottery.sparse.runtime.accelerate import usable
from audio_lottery.storage import write_json

WORKER = Path(__file__).with_name("deploy_worker.py")


@dataclass
class Contestant:
    """A way to deploy.

    Attributes:
        title: as the table has it.
        job: for the worker.
        bytes: of the model's files.
        runs: what the worker said, once a repeat.
    """

    title: str
    job: dict[str, Any]
    bytes: int
    runs: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Speech:
    """The utterances that all transcribe."""

    ids: list[str]
    texts: list[str]
    speakers: list[str]
    pieces: list[tuple[int, int]]
    audio: Path

    @property
    def seconds(self) -> float:
        """Of all of them."""
        return self.pieces[-1][1] / SAMPLE_RATE


def main() -> None:
    """Export, measure in turns, print."""
    options = parse()
    check_threads(options.threads)
    if options.repeats < 1:
        raise ConfigError(f"--repeats {options.repeats}: at least one run is needed")
    corpus = replace(named_corpus(options.test, "--test"), limit=options.limit)
    file = options.ticket / SPARSE_FILE
    if not file.is_file():
        raise ConfigError(f"{file} is missing; write it with `audio-lottery compress MODEL {options.ticket}`")
    load, busy = load_before()
    notes = [busy] if busy else []
    backbone = load_trained(ModelConfig(init=options.model, window=options.window))
    normalizer = options.normalizer or normalizer_of(options.model, backbone)
    get_normalizer(normalizer)  # what is wrong with it is told before anything is measured
    window = whisper_window(backbone, options)
    with tempfile.TemporaryDirectory(prefix="audio-lottery-deploy-") as temporary:
        folder = Path(temporary)
        heard = read_speech(corpus, folder, window["longest"], notes)
        contestants = [*dense(options, backbone, window, folder, notes), *tickets(options, window, notes)]
        measure(contestants, heard, options.threads, options.repeats)
    rows = [row(one, heard, normalizer) for one in contestants if one.runs]
    title = (
        f"{len(heard.ids)} utterances, {heard.seconds:.0f} s; WER by {normalizer}; "
        f"{options.threads} thread{'s' * (options.threads > 1)}, {options.repeats} runs each, in turns; "
        f"load before: {load:.2f}"
    )
    print(f"{title}\n\n{table(rows)}")
    for note in notes:
        print(f"\n{note}")
    if options.json is not None:
        write_json(options.json, {"title": title, "notes": notes, "rows": rows})


def parse() -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", metavar="MODEL", help="the dense model: folder or Hub id")
    parser.add_argument("ticket", metavar="TICKET", type=Path, help="folder that `audio-lottery compress` wrote")
    parser.add_argument("--test", required=True, metavar="SPEECH", help="FILE.jsonl or CORPUS:SPLIT[:PATH]")
    parser.add_argument("--calibration", nargs="+", default=[], metavar="SPEECH", help="for int8, as export has it")
    parser.add_argument("--limit", type=int, default=None, help="utterances, spread evenly (default: all)")
    parser.add_argument("--window", type=float, default=None, help="of a Whisper, seconds (default: the model's own)")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument(
        "--normalizer",
        default=None,
        help="of the WER (default: that of the run whose round MODEL is; or else whisper_english or whisper_basic of "
        "a Whisper, and basic)",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows to this file")
    return parser.parse_args()


def normalizer_of(model: str, backbone: Backbone) -> str:
    """The normaliser by which evaluation counts the words of a model."""
    settings = Path(model).absolute().parent / "config.yaml"
    if settings.is_file():
        return read_config(settings).wer_normalizer
    if not isinstance(backbone, Whisper):
        return "basic"
    language = backbone.module.generation_config.language
    return "whisper_english" if language in (None, "<|en|>") else "whisper_basic"


def whisper_window(backbone: Backbone, options: argparse.Namespace) -> dict[str, float | None]:
    """What workers are told of windows: their length, and the longest speech in one, in seconds; None of others.

    Raises:
        ConfigError: model and ticket hear other windows, so that their times would not compare.
    """
    if not isinstance(backbone, Whisper):
        return {"window": options.window, "longest": None}
    ticket: Any = load_trained(ModelConfig(init=str(options.ticket), window=options.window))
    windows = [one.features.window / SAMPLE_RATE for one in (backbone, ticket)]
    if windows[0] != windows[1]:
        raise ConfigError(
            f"MODEL hears windows of {windows[0]:g} s and TICKET of {windows[1]:g} s: give one to both with --window"
        )
    return {"window": windows[0], "longest": backbone.longest / SAMPLE_RATE}


def read_speech(corpus: CorpusConfig, folder: Path, longest: float | None, notes: list[str]) -> Speech:
    """All utterances in one file of float32 samples, which needs no decoder to be read.

    Args:
        corpus: what is heard.
        folder: for the file.
        longest: seconds of an utterance at most; longer ones are left out, and noted.
        notes: for the table.

    Raises:
        ConfigError: nothing is short enough.
    """
    rows = list(iterate(load_manifest([corpus], Path())))
    samples = [read_audio(one.audio, one.start, one.end, utterance_id=one.id) for one in rows]
    if longest is not None:
        kept = [index for index, one in enumerate(samples) if len(one) <= longest * SAMPLE_RATE]
        if not kept:
            raise ConfigError(f"--test: no utterance is as short as the {longest:g} s that a window takes")
        if len(kept) < len(rows):
            notes.append(f"{len(rows) - len(kept)} utterances are longer than {longest:g} s, and left out")
        rows, samples = [rows[index] for index in kept], [samples[index] for index in kept]
    ends = np.cumsum([len(one) for one in samples]).tolist()
    np.save(folder / "speech.npy", np.concatenate(samples))
    return Speech(
        [one.id for one in rows],
        [one.text for one in rows],
        [one.speaker for one in rows],
        list(zip([0, *ends[:-1]], ends, strict=True)),
        folder / "speech.npy",
    )


def dense(
    options: argparse.Namespace,
    backbone: Backbone,
    window: Mapping[str, float | None],
    folder: Path,
    notes: list[str],
) -> list[Contestant]:
    """The model on torch, and for the other runtimes where they take it."""
    file = Path(options.model) / SAFE_WEIGHTS_NAME
    weights = (
        file.stat().st_size if file.is_file() else sum(one.nbytes for one in backbone.module.state_dict().values())
    )
    job = {"kind": "package", "model": options.model, "precision": "float32", "accelerate": False, **window}
    first = Contestant("dense, torch float32", job, weights)
    if isinstance(backbone, Whisper):
        return [first, *converted(backbone, folder, notes)]
    return [first, *exported(options, backbone, folder, notes)]


def exported(options: argparse.Namespace, backbone: Backbone, folder: Path, notes: list[str]) -> list[Contestant]:
    """The model on OpenVINO, where it is one graph."""
    found = []
    for precision in ("float32", "int8"):
        if precision == "int8" and not options.calibration:
            notes.append("OpenVINO int8 is left out: it is fitted to speech, --calibration")
            continue
        out = folder / f"openvino-{precision}"
        fitted = speech(options.calibration, 100) if precision == "int8" else ()
        try:
            done = export(backbone, "openvino", out, precision=precision, calibration=fitted)
        except AudioLotteryError as error:
            notes.append(f"OpenVINO {precision} is left out: {error}")
            continue
        job = {"kind": "exported", "model": str(out), "library": "openvino"}
        found.append(Contestant(f"dense, OpenVINO {precision}", job, done.bytes))
    return found


def converted(backbone: Whisper, folder: Path, notes: list[str]) -> list[Contestant]:
    """A Whisper on CTranslate2; its prompt, its lists of words that are never written, and greedy search are ours."""
    if importlib.util.find_spec(CTRANSLATE2) is None:
        notes.append(f"CTranslate2 is left out: not installed; {EXTRA}")
        return []
    found = []
    extractor, prompt = backbone.processor.feature_extractor, prompt_of(backbone.module)
    limit = backbone.module.generation_config.max_length or backbone.module.config.max_target_positions
    for precision in ("float32", "int8"):
        out = convert(backbone.module, backbone.processor, folder, None if precision == "float32" else precision)
        shutil.copy(folder / "saved" / "tokenizer.json", out)
        np.save(out / "filters.npy", extractor.mel_filters.astype(np.float32))
        job = {
            "kind": "ctranslate2",
            "model": str(out),
            "precision": precision,
            "prompt": prompt,
            "pieces_at_most": limit - len(prompt),
            "features": {"fft": extractor.n_fft, "hop": extractor.hop_length, "window": backbone.features.window},
        }
        found.append(Contestant(f"dense, CTranslate2 {precision}", job, (out / "model.bin").stat().st_size))
    return found


def tickets(options: argparse.Namespace, window: Mapping[str, float | None], notes: list[str]) -> list[Contestant]:
    """The ticket on the sparse kernels, in every precision that they have here."""
    job = {"kind": "package", "model": str(options.ticket), "accelerate": True, **window}
    size = (options.ticket / SPARSE_FILE).stat().st_size
    found = []
    for precision in PRECISIONS:
        if usable(precision) != precision:
            notes.append(f"ticket, {precision} is left out: this CPU has no instructions for it")
            continue
        found.append(Contestant(f"ticket, {precision}", job | {"precision": precision}, size))
    return found


def measure(contestants: Sequence[Contestant], heard: Speech, threads: int, repeats: int) -> None:
    """Rounds in which every contestant runs once, in an order drawn anew."""
    order, turns = random.Random(0), list(contestants)
    with tqdm(total=repeats * len(turns), leave=False, disable=None) as bar:
        for _ in range(repeats):
            order.shuffle(turns)
            for one in turns:
                bar.set_description(one.title)
                one.runs.append(work(one.job | {"threads": threads, "audio": str(heard.audio), "pieces": heard.pieces}))
                bar.update()


def work(job: Mapping[str, Any]) -> dict[str, Any]:
    """What a worker says.

    Raises:
        RunError: it failed.
    """
    environment = os.environ | {"OMP_NUM_THREADS": str(job["threads"])}
    done = subprocess.run(
        [sys.executable, str(WORKER)],
        input=json.dumps(job),
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise RunError(f"{job['kind']} {job['model']} failed: {last}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def row(one: Contestant, heard: Speech, normalizer: str) -> dict[str, Any]:
    """A row of the table: WER of the last texts, the fastest run, the median memory."""
    texts = {tuple(done["texts"]) for done in one.runs}
    rates = evaluate_texts(heard.ids, heard.texts, one.runs[-1]["texts"], heard.speakers, normalizer).to_dict()
    return {
        "contestant": one.title,
        "wer": rates["wer"],
        "wer_interval": rates["wer_interval"],
        "bytes": one.bytes,
        "rtf": min(done["wall"] for done in one.runs) / heard.seconds,
        "rtf_of_runs": [done["wall"] / heard.seconds for done in one.runs],
        "first_rtf": min(done["first"] for done in one.runs) / heard.seconds,
        "processor_rtf": min(done["processor"] for done in one.runs) / heard.seconds,
        "peak_mib": statistics.median(done["peak"] for done in one.runs),
        "libraries_mib": statistics.median(done["libraries"] for done in one.runs),
        "texts_differ_between_runs": len(texts) > 1,
    }


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Markdown."""
    names = [
        "",
        "WER %",
        "95 % interval",
        "bytes",
        "RTF",
        "processor RTF",
        "RTF, first pass",
        "peak MiB",
        "of which libraries",
    ]
    lines = [f"| {' | '.join(names)} |", "|---" * len(names) + "|"]
    for one in rows:
        low, high = one["wer_interval"]
        cells = [
            one["contestant"],
            f"{100 * one['wer']:.2f}",
            f"{100 * low:.2f}–{100 * high:.2f}",
            f"{one['bytes']:,}",
            f"{one['rtf']:.4f}",
            f"{one['processor_rtf']:.4f}",
            f"{one['first_rtf']:.4f}",
            f"{one['peak_mib']:.0f}",
            f"{one['libraries_mib']:.0f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(run(main))
