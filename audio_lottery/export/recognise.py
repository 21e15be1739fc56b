"""Recordings into text with an exported recogniser: numpy, soundfile, safetensors and its runtime; nothing else.

    python recognise.py talk.wav ...          # in the folder that `audio-lottery export` wrote

To be used, or read and written again in another language. recogniser.json says what is done here, in words and numbers.
Recordings are 16 kHz, mono, and of some seconds: what is longer should be cut in pauses first.
"""

import argparse
import importlib
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

Outputs = tuple[np.ndarray, np.ndarray]
Run = Callable[[dict[str, np.ndarray]], Outputs]


def run_onnx(file: Path, threads: int, precision: str | None) -> Run:
    """ONNX Runtime: inputs by name → logits, frames; it computes in the file's precision."""
    onnxruntime: Any = importlib.import_module("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])

    def run(inputs: dict[str, np.ndarray]) -> Outputs:
        logits, frames = session.run(["logits", "frames"], inputs)
        return logits, frames

    return run


def run_openvino(file: Path, threads: int, precision: str | None) -> Run:
    """OpenVINO: inputs by name → logits, frames; one call at a time.

    Without a precision it computes in bfloat16, what is not int8, where the CPU can.
    """
    openvino: Any = importlib.import_module("openvino")
    settings = {
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
        # two virtual cores are often two threads of one core, of which OpenVINO would use one
        "ENABLE_HYPER_THREADING": True,
    }
    if precision is not None:
        settings["INFERENCE_PRECISION_HINT"] = precision
    compiled = openvino.Core().compile_model(file, "CPU", settings)

    def run(inputs: dict[str, np.ndarray]) -> Outputs:
        found = compiled(inputs)
        return found["logits"], found["frames"]

    return run


RUNNERS = {"onnx": run_onnx, "openvino": run_openvino}


class Recogniser:
    """An exported recogniser.

    Attributes:
        about: recogniser.json.
        run: the model: inputs by name → logits [batch, frames, outputs], frames [batch].
    """

    def __init__(self, folder: str | Path, threads: int = 1) -> None:
        folder = Path(folder)
        self.about: dict[str, Any] = json.loads((folder / "recogniser.json").read_text(encoding="utf-8"))
        runner = RUNNERS[self.about["target"]]
        self.run = runner(folder / self.about["file"], threads, self.about["inference_precision"])
        self._features = _front_end(self.about["features"], folder)

    def inputs(self, audio: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        """A batch, padded with zeros behind the end of the shorter ones.

        Args:
            audio: float32 samples of each utterance, at 16 kHz.
        """
        features = [self._features(np.asarray(samples, np.float32)) for samples in audio]
        longest = max(len(one) for one in features)
        multiple = self.about["pad_to_multiple"]  # of few lengths, for runtimes that prepare themselves for each
        longest = -(-longest // multiple) * multiple
        names = [given["name"] for given in self.about["inputs"]]
        padded = [np.pad(one, [(0, longest - len(one))] + [(0, 0)] * (one.ndim - 1)) for one in features]
        batch = {names[0]: np.stack(padded).astype(np.float32)}
        for mask in names[1:]:
            batch[mask] = np.stack([(np.arange(longest) < len(one)).astype(np.int64) for one in features])
        return batch

    def text(self, samples: np.ndarray) -> str:
        """What was said in an utterance."""
        if len(samples) < self.about["shortest_samples"]:
            return ""
        logits, frames = self.run(self.inputs([samples]))
        return self.spell(logits[0, : int(frames[0])])

    def spell(self, logits: np.ndarray) -> str:
        """The best output of every frame, repeats merged, blanks left out; logits [frames, outputs]."""
        best = logits.argmax(-1)
        kept = best[np.concatenate([[True], best[1:] != best[:-1]])] if len(best) else best
        return " ".join("".join(self.about["pieces"][index] for index in kept).split())


def _front_end(about: dict[str, Any], folder: Path) -> Callable[[np.ndarray], np.ndarray]:
    settings = about["settings"]
    if about["kind"] == "waveform":
        return lambda samples: _waveform(samples, settings)
    if about["kind"] == "spectrum":
        tables = importlib.import_module("safetensors.numpy").load_file(folder / "features.safetensors")
        return lambda samples: _spectrum(samples, settings, tables)
    extractor = importlib.import_module("transformers").AutoFeatureExtractor.from_pretrained(folder)
    name = extractor.model_input_names[0]
    return lambda samples: extractor([samples], sampling_rate=16_000, return_tensors="np")[name][0]


def _waveform(samples: np.ndarray, settings: dict[str, Any]) -> np.ndarray:
    if settings["normalise"]:
        samples = (samples - samples.mean()) / np.sqrt(samples.var() + settings["epsilon"])
    return samples


def _spectrum(samples: np.ndarray, settings: dict[str, Any], tables: dict[str, np.ndarray]) -> np.ndarray:
    fft, hop = settings["fft"], settings["hop"]
    frames = len(samples) // hop
    emphasised = np.concatenate([samples[:1], samples[1:] - np.float32(settings["preemphasis"]) * samples[:-1]])
    padded = np.pad(emphasised, fft // 2)
    windows = np.lib.stride_tricks.sliding_window_view(padded, fft)[::hop][:frames]
    spectrum = np.abs(np.fft.rfft(windows * tables["window"])) ** settings["power"]
    if "filters" in tables:
        spectrum = spectrum @ tables["filters"].T
    logs = np.log(spectrum + settings["log_guard"])
    if settings["normalise"] == "bins":
        logs = (logs - logs.mean(0)) / (logs.std(0, ddof=1) + settings["epsilon"])
    else:
        logs = (logs - logs.mean()) / (logs.std() + settings["epsilon"])
    return logs.astype(np.float32)


def main() -> int:
    """Print a line for each file."""
    import soundfile

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", metavar="FILE", help="16 kHz, mono")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    recogniser = Recogniser(Path(__file__).parent, options.threads)
    for file in options.files:
        samples, rate = soundfile.read(file, dtype="float32")
        if rate != recogniser.about["sample_rate"] or samples.ndim != 1:
            print(f"{file}: {rate} Hz and {samples.ndim} axes; convert it to 16 kHz mono", file=sys.stderr)
            return 2
        print(f"{file}\t{recogniser.text(samples)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
