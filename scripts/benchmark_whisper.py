"""Speed of a pruned Whisper on real speech: its encoder and whole utterances, beside torch and CTranslate2, in turns.

    python scripts/benchmark_whisper.py openai/whisper-tiny.en speech/test.jsonl --sparsity 0.2 0.4 0.6 0.8

The manifest is that of the corpus `jsonl`: JSON lines with audio_filepath, duration and text. Every utterance is
written greedily with as many word pieces as its transcript has; features are made before. CTranslate2 (in the extra
`bench`) and torch run the weights as they are, ours with zeros; all take turns in one run, whatever their sparsity. Of
two sparsities and more, a table says from which on ours is as fast as each of the others. RTF: seconds per second of
speech; ratios: how many times faster than CTranslate2 int8 in the same round, the median of the rounds with the least
and the most. "differs": utterances whose output is not that of torch in float32 with the same weights.
"""

import argparse
from pathlib import Path

from audio_lottery.cli import run
from audio_lottery.config import CorpusConfig, ModelConfig
from audio_lottery.data.audio import read_audio
from audio_lottery.data.corpora.load import load_manifest
from audio_lottery.data.manifest import iterate
from audio_lottery.errors import ConfigError
from audio_lottery.models.load import load_trained
from audio_lottery.report.break_even import format_model_break_even
from audio_lottery.report.columns import format_columns
from audio_lottery.report.inference import SHORT
from audio_lottery.sparse.benchmark import PATTERNS, BenchmarkSettings, available_cores, model_break_even
from audio_lottery.sparse.benchmark.interleaved import load_before
from audio_lottery.sparse.benchmark.own import pruned
from audio_lottery.sparse.benchmark.whisper_contestants import steps_of
from audio_lottery.sparse.benchmark.whisper_speech import Spoken, compare_speech, rows_of
from audio_lottery.sparse.precision import PRECISIONS
from audio_lottery.storage import write_json


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", metavar="MODEL", help="folder or Hub id of a Whisper")
    parser.add_argument("manifest", metavar="MANIFEST", type=Path, help="JSON lines")
    parser.add_argument("--limit", type=int, default=8, help="utterances, from the first on (default: 8)")
    parser.add_argument(
        "--sparsity", type=float, nargs="+", default=[0.8], help="zeros of every prunable matrix; 0: as it is"
    )
    parser.add_argument("--pattern", choices=PATTERNS, default="unstructured")
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=list(PRECISIONS), help="of ours")
    parser.add_argument("--window", type=float, default=None, help="seconds (default: the model's own)")
    parser.add_argument("--language", default=None, help="of multilingual models")
    parser.add_argument("--threads", type=int, default=min(2, available_cores()), help="of every contestant")
    parser.add_argument("--repeats", type=int, default=5, help="rounds (default: 5)")
    parser.add_argument("--seed", type=int, default=0, help="of the order of turns (default: 0)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows to this file")
    options = parser.parse_args()
    settings = BenchmarkSettings(
        sparsities=tuple(options.sparsity),
        precisions=tuple(options.precisions),
        repeats=options.repeats,
        threads=options.threads,
        seed=options.seed,
    )
    settings.check()
    load, busy = load_before()
    backbone = load_trained(ModelConfig(init=options.model, window=options.window, language=options.language))
    if backbone.longest is None:
        raise ConfigError(f"MODEL '{options.model}' is no Whisper; `audio-lottery bench` takes the other families")
    corpus = CorpusConfig("jsonl", options.manifest.name, str(options.manifest.parent), options.limit)
    utterances = []
    for row in iterate(load_manifest([corpus], Path())):
        audio = read_audio(row.audio, row.start, row.end)
        if len(audio) > backbone.longest:
            continue
        labels = backbone.vocabulary.encode(row.text)
        features = backbone.features([audio])["input_features"]
        utterances.append(Spoken(row.duration, features, min(len(labels) + 1, steps_of(backbone.module, 1e9))))
    if not utterances:
        raise ConfigError(f"{options.manifest}: no utterance fits the window; raise --window or --limit")
    seconds = sum(spoken.seconds for spoken in utterances)
    module = backbone.module.eval()
    sparse = {sparsity: pruned(module, options.pattern, sparsity) for sparsity in settings.sparsities}
    laps, notes = compare_speech(module, sparse, backbone.processor, utterances, settings)
    rows = rows_of(laps, seconds, options.pattern)
    print(
        f"{options.model}, {options.pattern}; {len(utterances)} utterances, {seconds:.1f} s, "
        f"{sum(spoken.steps for spoken in utterances)} word pieces; {settings.threads} threads, {settings.repeats} "
        f"rounds; load before: {load:.2f}\n"
    )
    header = [
        "part",
        "runtime",
        "precision",
        "sparsity",
        "RTF",
        "least",
        "most",
        "× CTranslate2 int8",
        "least",
        "most",
        "other words",
    ]
    body = [
        [
            row["subject"],
            row["runtime"],
            SHORT[row["precision"]],
            "-" if row["sparsity"] is None else f"{100 * row['sparsity']:g} %",
            *(f"{value:.4f}" for value in row["rtf"]),
            *(f"{value:.2f}" for value in row["ratio"] or ()),
            *(["-"] * (0 if row["ratio"] else 3)),
            str(row["wrong"]),
        ]
        for row in sorted(rows, key=lambda row: (row["subject"], row["rtf"][0]))
    ]
    print(format_columns(header, body, left=3))
    lines = model_break_even(rows)
    if lines:
        print("\n" + format_model_break_even(lines) + "\n")
    for note in [*notes, *([busy] if busy else [])]:
        print(note)
    if options.json is not None:
        write_json(options.json, {"rows": rows, "break_even": [line.to_dict() for line in lines]})


if __name__ == "__main__":
    raise SystemExit(run(main))
