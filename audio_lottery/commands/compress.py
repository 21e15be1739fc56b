"""``audio-lottery compress``: a sparse model as a small folder, and what it costs in WER where values are rounded."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse import ArgumentError

from audio_lottery.config import ModelConfig, RunConfig, validate
from audio_lottery.errors import ConfigError
from audio_lottery.settings import make_parser, named_corpus, to_config

if TYPE_CHECKING:
    from audio_lottery.sparse.format import SavedFile

_VALUES = ("fp32", "bf16", "fp16", "int8")


def main(arguments: list[str]) -> None:
    """Write a CTC model as ``model.sparse.safetensors`` beside config and processor; measure WER before and after."""
    parser = make_parser(
        "audio-lottery compress",
        "Store a sparse CTC model in a small file. With --test (or --data.test, or --config) its WER is measured "
        "before and after, under the conditions that `audio-lottery evaluate` would use.",
    )
    parser.add_argument("checkpoint", type=str, help="folder or Hub id of a CTC model, e.g. runs/demo/round_03")
    parser.add_argument("out", type=str, help="folder to write: new, empty, or written by this command before")
    parser.add_argument(
        "--values",
        type=str,
        default="fp32",
        help="fp32 (every bit is kept, default), bf16, fp16, or int8 with a scale per output row",
    )
    parser.add_argument(
        "--test",
        type=str,
        nargs="+",
        default=None,
        help="test data instead of data.test: FILE.jsonl, or CORPUS:SPLIT[:PATH] as in librispeech:test-clean",
    )
    parser.add_argument("--suites", type=str, nargs="+", default=None, help="test conditions, as evaluate takes them")
    parser.add_argument("--tensors", action="store_true", help="print one line per tensor")
    try:
        namespace = parser.parse_args(arguments)
        own = {name: namespace.pop(name) for name in ("checkpoint", "out", "values", "test", "suites", "tensors")}
        config = to_config(parser, namespace)
    except ArgumentError as error:
        raise ConfigError(f"settings: {error}; --help lists all of them") from error
    if own["values"] not in _VALUES:
        raise ConfigError(f"--values {own['values']} is unknown; there are {', '.join(_VALUES)}")
    config = _with_tests(config, own["test"], own["suites"])
    validate(config, training=False)
    measure = own["test"] is not None or any(a.split("=")[0] in ("--config", "--data.test") for a in arguments)
    # Here and not above: they load torch, and a mistake in the settings should be told at once.
    from audio_lottery.report.compression import format_saved

    saved = _compress(own["checkpoint"], config.model.revision, Path(own["out"]), own["values"])
    print(format_saved(saved, own["tensors"]))
    if measure:
        print(f"\n{_measure(own['checkpoint'], own['out'], config)}")
    elif saved.lossy:
        print(
            f"\nWER was not measured again, and {len(saved.lossy)} tensors are rounded. To measure it:\n"
            f"  audio-lottery evaluate {own['checkpoint']} --data.test ...\n"
            f"  audio-lottery evaluate {own['out']} --data.test ...\n"
            "or give --test to this command."
        )


def _with_tests(config: RunConfig, tests: Sequence[str] | None, suites: Sequence[str] | None) -> RunConfig:
    if tests is not None:
        config = replace(config, data=replace(config.data, test=tuple(named_corpus(test, "--test") for test in tests)))
    if suites:
        from audio_lottery.data.noise import parse_suites

        parsed = parse_suites(list(suites), Path(config.data.root).expanduser())
        config = replace(config, evaluation=replace(config.evaluation, suites=parsed))
    return config


def _compress(checkpoint: str, revision: str | None, out: Path, values: str) -> "SavedFile":
    from audio_lottery.models.load import load_trained
    from audio_lottery.sparse.format import save

    backbone = load_trained(ModelConfig(init=checkpoint, revision=revision))
    return save(backbone.module, out, values=values, processor=backbone.processor)


def _measure(checkpoint: str, out: str, config: RunConfig) -> str:
    """WER of the model and of what was written, by the same code under the same conditions."""
    from audio_lottery.evaluation.evaluate import evaluate_model
    from audio_lottery.report.compression import format_before_and_after

    before = evaluate_model(checkpoint, config)
    # A revision names a commit of the checkpoint, not of the folder beside it.
    after = evaluate_model(out, replace(config, model=replace(config.model, revision=None)))
    return format_before_and_after(before, after)
