"""What a small file takes, and what it costs in WER, as text."""

from collections.abc import Iterable, Mapping, Sequence

from audio_lottery.evaluation.evaluate import SuiteOutcome
from audio_lottery.report.columns import format_columns, percent, percent_interval
from audio_lottery.sparse.format import SavedFile, TensorRow

_HEADER = ("coding", "unit", "tensors", "weights", "density", "bits / position", "entropy", "positions", "values")


def format_saved(saved: SavedFile, per_tensor: bool = False) -> str:
    """Sizes as aligned text: one line per coding and unit (or per tensor), then the whole file beside the dense one."""
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


def _cells(rows: Sequence[TensorRow]) -> list[str]:
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


def format_before_and_after(before: Mapping[str, SuiteOutcome], after: Mapping[str, SuiteOutcome]) -> str:
    """WER of a model and of what was written of it, a line a suite."""
    body = []
    for suite, one in before.items():
        first, then = one.result, after[suite].result
        body.append(
            [
                suite,
                percent(first["wer"]),
                percent_interval(first["wer_interval"]),
                percent(then["wer"]),
                percent_interval(then["wer_interval"]),
                percent(then["wer"] - first["wer"], sign=True),
            ]
        )
    header = ["suite", "WER % before", "95 %", "WER % after", "95 %", "difference"]
    return format_columns(header, body, left=1)
