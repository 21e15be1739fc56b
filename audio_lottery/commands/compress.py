"""``audio-lottery compress``: a sparse model as a small folder, and what it costs in WER where values are rounded."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse import ArgumentError

from audio_lottery.config import CorpusConfig, ModelConfig, RunConfig, validate
from audio_lottery.errors import ConfigError
from audio_lottery.settings import make_parser, to_config

if TYPE_CHECKING:
    from audio_lottery.sparse.format import SavedFile, TensorRow

_VALUES = ("fp32", "bf16", "fp16", "int8")
_HEADER = ("coding", "unit", "tensors", "weights", "density", "bits / position", "entropy", "positions", "values")


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


def format_saved(saved: "SavedFile", per_tensor: bool = False) -> str:
    """Sizes as aligned text: one line per coding and unit (or per tensor), then the whole file beside the dense one."""
    from audio_lottery.report.columns import format_columns

    groups: dict[tuple[str, str], list[TensorRow]] = {}
    for row in saved.rows:
        key = (row.name, "") if per_tensor else (row.coding, "x".join(map(str, row.unit)))
        groups.setdefault(key, []).append(row)
    header = ["tensor", *_HEADER] if per_tensor else [*_HEADER]
    body = []
    for rows in groups.values():
        cells = _cells(rows)
        body.append([rows[0].name, *cells] if per_tensor else cells)
    table = format_columns(header, body, left=3 if per_tensor else 2)
    stored = sum(row.position_bytes + row.value_bytes for row in saved.rows)
    lines = [
        table,
        "",
        f"{saved.path}: {saved.bytes:,} bytes ({saved.bytes - stored:,} of them header), {saved.ratio:.4f} of the "
        f"{saved.dense_bytes:,} bytes of the dense weights",
    ]
    if all(row.coding == "dense" for row in saved.rows):
        lines.append("no tensor has enough zeros to gain from positions and values: all are stored as they are")
    if saved.lossy:
        lines.append(
            f"lossy: {len(saved.lossy)} tensors are rounded to {saved.values}; what loads is the rounded weights, bit "
            "for bit"
        )
    else:
        lines.append("exact: what loads is the weights, bit for bit")
    return "\n".join(lines)


def _cells(rows: Sequence["TensorRow"]) -> list[str]:
    def total(values: Iterable[float]) -> float:
        return sum(values)

    weights, places = total(row.weights for row in rows), total(row.places for row in rows)
    positions = total(row.position_bytes for row in rows)
    return [
        rows[0].coding,
        "x".join(map(str, rows[0].unit)),
        str(len(rows)),
        f"{weights:,}",
        f"{total(row.kept for row in rows) / max(1, weights):.4f}",
        f"{8 * positions / places:.4f}" if places else "-",
        f"{8 * total(row.entropy_bytes for row in rows) / places:.4f}" if places else "-",
        f"{positions:,}",
        f"{total(row.value_bytes for row in rows):,}",
    ]


def _with_tests(config: RunConfig, tests: Sequence[str] | None, suites: Sequence[str] | None) -> RunConfig:
    if tests is not None:
        config = replace(config, data=replace(config.data, test=tuple(_corpus(test) for test in tests)))
    if suites:
        from audio_lottery.data.noise import parse_suites

        parsed = parse_suites(list(suites), Path(config.data.root).expanduser())
        config = replace(config, evaluation=replace(config.evaluation, suites=parsed))
    return config


def _corpus(test: str) -> CorpusConfig:
    """``FILE.jsonl`` or ``CORPUS:SPLIT[:PATH]``."""
    path = Path(test)
    if path.suffix == ".jsonl":
        return CorpusConfig("jsonl", path.name, str(path.absolute().parent))
    corpus, _, rest = test.partition(":")
    split, _, folder = rest.partition(":")
    if not (corpus and split):
        raise ConfigError(f"--test {test} is neither FILE.jsonl nor CORPUS:SPLIT[:PATH], e.g. librispeech:test-clean")
    return CorpusConfig(corpus, split, folder)


def _compress(checkpoint: str, revision: str | None, out: Path, values: str) -> "SavedFile":
    from audio_lottery.models.load import load_trained
    from audio_lottery.sparse.format import save

    backbone = load_trained(ModelConfig(init=checkpoint, revision=revision))
    return save(backbone.module, out, values=values, processor=backbone.processor)


def _measure(checkpoint: str, out: str, config: RunConfig) -> str:
    """WER of the model and of what was written, by the same code under the same conditions."""
    from audio_lottery.evaluation.evaluate import evaluate_model
    from audio_lottery.report.columns import format_columns, percent, percent_interval

    before = evaluate_model(checkpoint, config)
    # A revision names a commit of the checkpoint, not of the folder beside it.
    after = evaluate_model(out, replace(config, model=replace(config.model, revision=None)))
    body = []
    for suite, one in before.items():
        other = after[suite].result
        body.append(
            [
                suite,
                percent(one.result["wer"]),
                percent_interval(one.result["wer_interval"]),
                percent(other["wer"]),
                percent_interval(other["wer_interval"]),
                percent(other["wer"] - one.result["wer"], sign=True),
            ]
        )
    header = ["suite", "WER % before", "95 %", "WER % after", "95 %", "difference"]
    return format_columns(header, body, left=1)
