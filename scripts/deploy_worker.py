"""One contestant of scripts/deploy_table.py, in a process of its own: transcribes, and says what that took.

A job on standard input says what: ``kind`` (a key of `LOADERS`), ``model`` (a folder or a Hub id), ``threads``,
``audio`` and ``pieces`` (a file of float32 samples, and where in it each utterance begins and ends), and what the kind
needs besides. It imports what its contestant needs and nothing more, so that the memory is that of a service which does
the same.
"""

import importlib
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np


def main() -> None:
    """Read a job from standard input, print a line of JSON."""
    job = json.load(sys.stdin)
    load = LOADERS[job["kind"]](job)  # imports
    libraries = memory("VmRSS")
    transcribe = load()
    audio = np.load(job["audio"], mmap_mode="r")
    pieces = [np.array(audio[begin:end]) for begin, end in job["pieces"]]
    times = []
    for _ in range(2):
        wall, processor = time.perf_counter(), time.process_time()
        texts = [transcribe(samples) for samples in pieces]
        times.append((time.perf_counter() - wall, time.process_time() - processor))
    found = {
        "first": times[0][0],
        "wall": times[1][0],
        "processor": times[1][1],
        "libraries": libraries,
        "peak": memory("VmHWM"),
        "texts": texts,
    }
    print(json.dumps(found))


Transcribe = Callable[[np.ndarray], str]


def package(job: dict[str, Any]) -> Callable[[], Transcribe]:
    """`audio_lottery.transcribe.Recogniser`: a dense model on torch, a ticket on the sparse kernels."""
    from audio_lottery.config import ModelConfig
    from audio_lottery.models.load import load_trained
    from audio_lottery.transcribe import Recogniser, Windowing

    if job["accelerate"] is not False:
        import audio_lottery.sparse.runtime.accelerate  # noqa: F401 - its kernels are libraries too

    def load() -> Transcribe:
        backbone = load_trained(ModelConfig(init=job["model"], window=job["window"]))
        recogniser = Recogniser(
            backbone, precision=job["precision"], threads=job["threads"], accelerate=job["accelerate"]
        )
        # no utterance is cut that a model of fixed windows takes whole
        windowing = None if job["longest"] is None else Windowing.up_to(job["longest"])
        return lambda samples: recogniser.transcribe(samples, windowing=windowing).text

    return load


def exported(job: dict[str, Any]) -> Callable[[], Transcribe]:
    """recognise.py of an exported folder, which needs no torch."""
    sys.path.insert(0, job["model"])
    recognise = importlib.import_module("recognise")
    importlib.import_module(job["library"])
    return lambda: recognise.Recogniser(job["model"], job["threads"]).text


def ctranslate2(job: dict[str, Any]) -> Callable[[], Transcribe]:
    """A Whisper on CTranslate2, with features in numpy and words by tokenizers: a service without torch."""
    # its converters, which run nothing here, import these where they are installed
    absent: dict[str, Any] = dict.fromkeys(("torch", "transformers"))
    sys.modules.update(absent)
    runtime = importlib.import_module("ctranslate2")
    tokenizers = importlib.import_module("tokenizers")

    def load() -> Transcribe:
        folder = Path(job["model"])
        model = runtime.models.Whisper(
            str(folder), device="cpu", compute_type=job["precision"], intra_threads=job["threads"]
        )
        tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
        about = job["features"]
        filters = np.load(folder / "filters.npy")

        def transcribe(samples: np.ndarray) -> str:
            features = runtime.StorageView.from_array(log_mel(samples, filters, **about)[None])
            # it writes at most half of max_length
            [found] = model.generate(features, [job["prompt"]], beam_size=1, max_length=2 * job["pieces_at_most"])
            return " ".join(tokenizer.decode(found.sequences_ids[0]).split())

        return transcribe

    return load


def log_mel(samples: np.ndarray, filters: np.ndarray, fft: int, hop: int, window: int) -> np.ndarray:
    """What Whisper hears, as transformers' WhisperFeatureExtractor has it, [bins, window / hop].

    Args:
        samples: float32, no more than ``window``.
        filters: [fft / 2 + 1, bins].
        fft: samples of a Fourier transform.
        hop: samples from one to the next.
        window: samples that speech is padded to.
    """
    padded = np.pad(np.pad(samples, (0, window - len(samples))), fft // 2, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(padded, fft)[::hop][: window // hop]
    spectrum = np.abs(np.fft.rfft(frames * np.hanning(fft + 1)[:-1].astype(np.float32))) ** 2
    logs = np.log10(np.maximum(spectrum @ filters, 1e-10))
    found: np.ndarray = (np.maximum(logs, logs.max() - 8.0) + 4.0) / 4.0
    return np.ascontiguousarray(found.T, np.float32)


LOADERS = {"package": package, "exported": exported, "ctranslate2": ctranslate2}


def memory(field: str) -> float:
    """A field of /proc/self/status, in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024


if __name__ == "__main__":
    main()
