"""Error rates of transcripts on disk, as text."""

from dataclasses import dataclass
from pathlib import Path

from audio_lottery.evaluation.compare import Comparison
from audio_lottery.evaluation.wer import ErrorRates, summarise
from audio_lottery.evaluation.worst import BadUtterance
from audio_lottery.report.columns import format_columns, percent, percent_interval

EMPTY_REFERENCES = "kept: every word recognised there counts as an insertion"


@dataclass(frozen=True)
class Sources:
    """Where the numbers come from: files, and how they were compared (`compared`: the other system's hypotheses)."""

    references: Path
    hypotheses: Path
    compared: Path | None
    alignment: str
    resamples: int
    seed: int


def format_scores(
    sources: Sources,
    results: dict[str, ErrorRates],
    comparisons: dict[str, Comparison],
    bad: list[BadUtterance],
) -> str:
    """Error rates raw and normalised, the comparison with another system, the worst utterances."""
    final = list(results.values())[-1]
    counts = final.counts
    speakers = f", {final.interval_speakers.units} speakers" if counts.speakers[0] else ""
    parts = [
        f"{sources.hypotheses} against {sources.references}: {len(counts.ids)} utterances{speakers}; "
        f"alignment {sources.alignment}",
        _rates(results),
        f"intervals: 95 %, {sources.resamples} bootstrap resamples, seed {sources.seed}"
        if sources.resamples
        else "intervals: none (--bootstrap 0)",
    ]
    notes = (final.interval.note, final.interval_speakers.note) if sources.resamples else ()
    parts += [f"  {note}" for note in notes if note]
    if counts.empty_references:
        parts.append(f"{counts.empty_references} empty references, {EMPTY_REFERENCES}")
    for name, comparison in comparisons.items():
        parts.append(_comparison(sources, name, comparison))
    for entry in bad:
        parts.append(f"\n{entry.id}: {entry.errors} errors in {entry.reference_words} words\n{entry.alignment}")
    return "\n".join(parts)


def _rates(results: dict[str, ErrorRates]) -> str:
    header = [
        "normalizer",
        "WER %",
        "over utterances",
        "over speakers",
        "CER %",
        "words",
        "hit",
        "sub",
        "del",
        "ins",
        "loops",
    ]
    body = []
    for name, result in results.items():
        words = result.counts.words
        body.append(
            [
                "none (raw)" if name == "none" else name,
                percent(result.counts.wer),
                percent_interval(result.interval.bounds),
                percent_interval(result.interval_speakers.bounds),
                percent(result.counts.cer),
                str(words.reference.sum()),
                *(str(total) for total in words.totals().values()),
                str(summarise(result.counts).loops),
            ]
        )
    return format_columns(header, body, left=1)


def _comparison(sources: Sources, name: str, comparison: Comparison) -> str:
    difference, test = comparison.difference, comparison.mapsswe
    relative = "-" if difference.relative is None else f"{percent(difference.relative, sign=True)} %"
    z, p = ("-" if value is None else f"{value:.3g}" for value in (test.z, test.p))
    lines = [
        f"\nWER minus that of {sources.compared}, normalizer {name}:",
        f"  absolute {percent(difference.difference, sign=True)} points, over utterances "
        f"{percent_interval(difference.interval.bounds, sign=True)}, over speakers "
        f"{percent_interval(difference.interval_speakers.bounds, sign=True)}",
        f"  relative {relative} {percent_interval(difference.interval_relative.bounds, sign=True)}",
        f"  MAPSSWE: {test.segments} segments, z {z}, p {p}: {test.verdict}{f' ({test.note})' if test.note else ''}",
    ]
    return "\n".join(lines)
