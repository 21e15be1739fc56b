"""Speed of evaluation beside `transformers.pipeline`: the same model, the same audio, interleaved in one run.

    python scripts/benchmark_evaluation.py --model runs/demo/round_00
    python scripts/benchmark_evaluation.py --model base --utterances 16      # wav2vec2-base shapes, random weights

The pipeline is used as its documentation shows, fed by a generator, once with its default of one utterance at a time
and once with --batch_size. All decode the files from disk with the same reader (the pipeline's own needs FFmpeg).
Real-time factor: seconds of audio per second of wall clock, higher is faster.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from transformers import Wav2Vec2Config, Wav2Vec2ForCTC, pipeline

from audio_lottery.cli import run
from audio_lottery.config import CorpusConfig, EvaluationConfig, ModelConfig
from audio_lottery.data.audio import SAMPLE_RATE, read_audio
from audio_lottery.data.corpora.load import load_manifest
from audio_lottery.evaluation.evaluator import Evaluator
from audio_lottery.evaluation.transcripts import best_texts
from audio_lottery.models.base import Backbone
from audio_lottery.models.characters import build_processor
from audio_lottery.models.load import load_backbone
from audio_lottery.models.wav2vec2 import Wav2Vec2
from audio_lottery.processes import make_accelerator


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="w2v2-mini", help="folder, Hub id, preset, or base (random wav2vec2-base)")
    parser.add_argument("--corpus", default="mini-ted", help="corpus the audio is taken from")
    parser.add_argument("--split", default="test")
    parser.add_argument("--path", default="", help="folder of the corpus")
    parser.add_argument("--utterances", type=int, default=None, help="use this many, spread over the split")
    parser.add_argument("--batch_size", type=int, default=8, help="of the second pipeline")
    parser.add_argument("--precision", choices=("no", "bf16"), default="no", help="of our forward pass")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path, default=None, help="write the rows to this file")
    options = parser.parse_args()

    corpus = CorpusConfig(options.corpus, options.split, options.path, options.utterances)
    manifest = load_manifest([corpus], Path())
    seconds = float(sum(manifest["duration"]))
    backbone = make_backbone(options.model)
    accelerator = make_accelerator("no", None)
    judge = Evaluator(accelerator, EvaluationConfig(precision=options.precision), "none", Path())
    backbone.module.eval().to(accelerator.device)
    asr = pipeline(
        "automatic-speech-recognition",
        model=backbone.module,
        tokenizer=backbone.processor.tokenizer,
        feature_extractor=backbone.processor.feature_extractor,
        device=accelerator.device,
    )

    def ours() -> list[str]:
        return best_texts(judge.hypotheses(backbone, manifest))

    def audio() -> Iterator[dict[str, Any]]:
        for row in manifest:
            yield {"raw": read_audio(row["audio"], row["start"], row["end"]), "sampling_rate": SAMPLE_RATE}

    def theirs(batch_size: int) -> list[str]:
        with torch.inference_mode():
            return [result["text"] for result in asr(audio(), batch_size=batch_size)]

    contestants: dict[str, Callable[[], list[str]]] = {
        "audio_lottery": ours,
        "pipeline, batch 1": lambda: theirs(1),
        f"pipeline, batch {options.batch_size}": lambda: theirs(options.batch_size),
    }
    times: dict[str, list[float]] = {name: [] for name in contestants}
    texts: dict[str, list[str]] = {}
    for repeat in range(options.repeats + 1):
        for name, contestant in contestants.items():
            started = time.perf_counter()
            texts[name] = contestant()
            if repeat:  # the first turn warms up
                times[name].append(time.perf_counter() - started)
    rows = [
        {
            "method": name,
            "seconds": statistics.median(values),
            "real_time_factor": seconds / statistics.median(values),
            "ratio": statistics.median(v / o for v, o in zip(values, times["audio_lottery"], strict=True)),
            "same_texts": sum(a == b for a, b in zip(texts[name], texts["audio_lottery"], strict=True)),
        }
        for name, values in times.items()
    ]
    print(f"{len(manifest)} utterances, {seconds:.0f} s; {torch.get_num_threads()} threads; {options.repeats} repeats")
    print(f"{'':<22}{'seconds':>9}{'x real time':>13}{'slower by':>11}{'same texts':>12}")
    for row in rows:
        print(
            f"{row['method']:<22}{row['seconds']:>9.2f}{row['real_time_factor']:>13.0f}{row['ratio']:>11.2f}"
            f"{row['same_texts']:>12}"
        )
    if options.json is not None:
        options.json.write_text(json.dumps({"audio_seconds": seconds, "rows": rows}, indent=2) + "\n")


def make_backbone(model: str) -> Backbone:
    """A saved model, a preset, or wav2vec2-base with random weights."""
    if model != "base":
        return load_backbone(ModelConfig(init=model), seed=0)
    processor = build_processor(return_attention_mask=False)
    torch.manual_seed(0)
    network = Wav2Vec2ForCTC(Wav2Vec2Config(vocab_size=len(processor.tokenizer), pad_token_id=0))
    return Wav2Vec2(network, processor)


if __name__ == "__main__":
    raise SystemExit(run(main))
