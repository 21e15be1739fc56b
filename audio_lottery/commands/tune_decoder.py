"""``audio-lottery tune-decoder``: the weights of beam search, chosen on dev."""

import os
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from jsonargparse import ArgumentError

from audio_lottery.config import DecoderConfig, ModelConfig, RunConfig, validate
from audio_lottery.data.corpora.load import load_manifest
from audio_lottery.errors import ConfigError
from audio_lottery.evaluation.decoding import NOTHING, GreedyDecoder, available_cores, load_search
from audio_lottery.evaluation.decoding.beam import to_log_probs
from audio_lottery.evaluation.decoding.tuning import References, best_point, keep_log_probs, tune
from audio_lottery.evaluation.forward import forward
from audio_lottery.evaluation.wer import score
from audio_lottery.models.load import load_trained
from audio_lottery.processes import make_accelerator
from audio_lottery.report.tuning import format_grid
from audio_lottery.settings import make_parser, to_config
from audio_lottery.storage import write_bytes, write_json

_LM_WEIGHTS, _WORD_SCORES = "0.5,1,1.5,2,3", "-1,0,1,2"


def main(arguments: list[str]) -> None:
    """Tune language model weight and word score of a checkpoint on the dev splits of a configuration."""
    parser = make_parser(
        "audio-lottery tune-decoder", "Choose language model weight and word score of beam search by WER on dev."
    )
    parser.add_argument("checkpoint", type=str, help="folder or Hub id of a CTC model, e.g. runs/demo/round_03")
    parser.add_argument(
        "--lm", type=str, default=None, help="n-gram language model: ARPA (may be gzipped), KenLM binary"
    )
    parser.add_argument(
        "--lexicon", type=str, default=None, help="lines of word, tab, c h a r s | (else the LM's words)"
    )
    parser.add_argument("--lm-weights", type=str, default=_LM_WEIGHTS, help="to try, separated by commas")
    parser.add_argument("--word-scores", type=str, default=_WORD_SCORES, help="to try, separated by commas")
    parser.add_argument(
        "--processes", type=int, default=available_cores(), help="processes that search (default: cores)"
    )
    parser.add_argument("--out", type=str, default="decoder.yaml", help="settings that --config reads")
    try:
        namespace = parser.parse_args(_join_values(arguments))
        own = {name: namespace.pop(name) for name in ("checkpoint", "lm", "lexicon", "processes", "out")}
        weights = _numbers("--lm-weights", namespace.pop("lm_weights"))
        scores = _numbers("--word-scores", namespace.pop("word_scores"))
        config = to_config(parser, namespace)
    except ArgumentError as error:
        raise ConfigError(f"settings: {error}; --help lists all of them") from error
    if min(weights) < 0:
        raise ConfigError(f"--lm-weights holds {min(weights):g}; weights are 0 or more")
    if own["processes"] < 1:
        raise ConfigError(f"--processes is {own['processes']}; it must be 1 or more")
    if Path(own["out"]).suffix not in (".yaml", ".yml"):
        raise ConfigError(f"--out is {own['out']}; it must be a .yaml file")
    config = _with_files(config, own["lm"], own["lexicon"])
    validate(config, training=False)
    _tune(own["checkpoint"], config, weights, scores, own["processes"], Path(own["out"]))


def _tune(
    checkpoint: str, config: RunConfig, weights: list[float], scores: list[float], processes: int, out: Path
) -> None:
    started = time.perf_counter()
    accelerator = make_accelerator("no", None)
    if accelerator.num_processes > 1:
        raise ConfigError("tune-decoder runs in one process; start it without accelerate launch or torchrun")
    root = Path(config.data.root).expanduser()
    source = ModelConfig(init=checkpoint, attention=config.model.attention, revision=config.model.revision)
    backbone = load_trained(source)
    backbone.module.to(accelerator.device)
    search = load_search(config.evaluation.decoder, backbone, root)
    manifest = load_manifest(config.data.dev, root)
    greedy: dict[int, str] = {}
    decode_greedily = GreedyDecoder(backbone)

    def utterances() -> Iterator[tuple[int, np.ndarray]]:
        outputs = 1
        for rows, emission in forward(
            backbone,
            manifest,
            accelerator,
            settings=config.evaluation,
            num_workers=config.data.num_workers,
            description="dev",
        ):
            outputs = emission.values.shape[-1]
            greedy.update(zip(rows, (found[0].text for found in decode_greedily(emission)), strict=True))
            yield from zip(rows, to_log_probs(emission), strict=True)
        silent = [row for row in range(len(manifest)) if row not in greedy]
        greedy.update(dict.fromkeys(silent, NOTHING.text))
        yield from ((row, np.zeros((0, outputs), np.float32)) for row in silent)

    log_probs = keep_log_probs(utterances())
    references = References(manifest["id"][:], manifest["text"][:], config.wer_normalizer)
    points = tune(search, log_probs, references, weights, scores, processes)
    best = best_point(points)
    greedy_texts = [greedy[row] for row in range(len(manifest))]
    greedy_wer = score(references.ids, references.texts, greedy_texts, references.normalizer).wer
    chosen = replace(config.evaluation.decoder, lm_weight=best.lm_weight, word_score=best.word_score)
    grid = out.with_name(f"{out.stem}_grid.json")
    write_bytes(out, _to_yaml(chosen).encode())
    write_json(
        grid,
        {
            "checkpoint": checkpoint,
            "decoder": search.weighted(best.lm_weight, best.word_score).name,
            "dev": [asdict(corpus) for corpus in config.data.dev],
            "utterances": len(manifest),
            "audio_seconds": float(sum(manifest["duration"])),
            "normalizer": config.wer_normalizer,
            "greedy_wer": greedy_wer,
            "best": asdict(best),
            "grid": [asdict(point) for point in points],
            "seconds": round(time.perf_counter() - started, 1),
        },
    )
    print(f"WER (%) on dev, {len(manifest)} utterances, normaliser {config.wer_normalizer}; * is the best\n")
    print(format_grid(points))
    print(f"\ngreedy: {100 * greedy_wer:.2f} %, beam search: {100 * best.wer:.2f} %")
    print(f"written: {out} (evaluate with --config SETTINGS.yaml --config {out}), {grid}")


def _with_files(config: RunConfig, lm: str | None, lexicon: str | None) -> RunConfig:
    """The configuration with beam search switched on and the files of the command line in it."""
    root = Path(config.data.root).expanduser()
    given: dict[str, Any] = {name: _from_root(path, root) for name, path in (("lm", lm), ("lexicon", lexicon)) if path}
    decoder = replace(config.evaluation.decoder, kind="beam", **given)
    if decoder.lm is None:
        raise ConfigError("tune-decoder needs a language model: --lm FILE, or evaluation.decoder.lm in --config")
    if not config.data.dev:
        raise ConfigError("data.dev names no corpus; the weights are chosen there")
    return replace(config, evaluation=replace(config.evaluation, decoder=decoder))


def _from_root(path: str, root: Path) -> str:
    """A path given on the command line as the settings hold it: relative to data.root if inside, else absolute."""
    absolute, base = Path(os.path.abspath(Path(path).expanduser())), Path(os.path.abspath(root))
    return str(absolute.relative_to(base) if absolute.is_relative_to(base) else absolute)


def _to_yaml(decoder: DecoderConfig) -> str:
    return yaml.safe_dump({"evaluation": {"decoder": asdict(decoder)}}, sort_keys=False, allow_unicode=True)


def _join_values(arguments: list[str]) -> list[str]:
    """``--word-scores -1,0`` as ``--word-scores=-1,0``: argparse takes a value that starts with - for an option."""
    joined: list[str] = []
    for argument in arguments:
        if joined and joined[-1] in ("--lm-weights", "--word-scores"):
            joined[-1] += f"={argument}"
        else:
            joined.append(argument)
    return joined


def _numbers(option: str, text: str) -> list[float]:
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError as error:
        raise ConfigError(f"{option} is '{text}'; give numbers separated by commas, e.g. {_LM_WEIGHTS}") from error
    if not np.isfinite(numbers).all():
        raise ConfigError(f"{option} is '{text}'; every number must be finite")
    return numbers
