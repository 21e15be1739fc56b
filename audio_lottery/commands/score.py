"""``audio-lottery score``: error rates of transcripts on disk."""

import argparse
import json
import re
from pathlib import Path
from typing import Any

from audio_lottery.errors import ConfigError, TextError
from audio_lottery.evaluation.alignment import COSTS
from audio_lottery.evaluation.compare import Comparison, compare
from audio_lottery.evaluation.counts import check_same_ids
from audio_lottery.evaluation.repetitions import count_loops
from audio_lottery.evaluation.transcripts import read_texts
from audio_lottery.evaluation.wer import ErrorRates, evaluate_texts
from audio_lottery.evaluation.worst import BadUtterance, worst
from audio_lottery.report.columns import format_columns, percent, percent_interval

EMPTY_REFERENCES = "kept: every word recognised there counts as an insertion"


def main(arguments: list[str]) -> None:
    """Score hypotheses against references, as they are and normalised, and compare two systems."""
    options = _parser().parse_args(arguments)
    if options.worst < 0:
        raise ConfigError(f"--worst {options.worst}: a number of utterances is expected, 0 or more")
    references, hypotheses = read_texts(options.ref), read_texts(options.hyp)
    check_same_ids(list(references), list(hypotheses), str(options.ref), str(options.hyp))
    ids = list(references)
    speakers = _speakers(ids, options.speakers, options.speaker_regex)

    def evaluate(texts: dict[str, str], normalizer: str) -> ErrorRates:
        return evaluate_texts(
            ids,
            [references[utterance_id] for utterance_id in ids],
            [texts[utterance_id] for utterance_id in ids],
            speakers,
            normalizer,
            alignment=options.alignment,
            bootstrap=options.bootstrap,
            seed=options.seed,
        )

    names = list(dict.fromkeys(["none", options.normalizer]))
    results = {name: evaluate(hypotheses, name) for name in names}
    final = results[names[-1]]
    comparisons: dict[str, Comparison] = {}
    if options.compare is not None:
        others = read_texts(options.compare)
        check_same_ids(ids, list(others), str(options.ref), str(options.compare))
        comparisons = {
            name: compare(
                results[name].counts, evaluate(others, name).counts, resamples=options.bootstrap, seed=options.seed
            )
            for name in names
        }
    bad = worst(final.counts, options.worst)
    if options.json:
        print(json.dumps(_to_json(options, results, comparisons, bad), indent=2, ensure_ascii=False))
    else:
        print(_to_text(options, results, comparisons, bad))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="audio-lottery score",
        description="WER and CER with 95 % intervals, raw and normalised, of id<TAB>text files; docs/statistics.md "
        "explains every number.",
    )
    parser.add_argument("--ref", type=Path, required=True, help="references, id<TAB>text")
    parser.add_argument("--hyp", type=Path, required=True, help="hypotheses, id<TAB>text, the same ids in any order")
    parser.add_argument("--compare", type=Path, metavar="OTHER_HYP", help="hypotheses of the system to compare with")
    parser.add_argument(
        "--alignment",
        choices=list(COSTS),
        default="jiwer",
        help="jiwer: fewest errors (default); nist: sclite's weights 4, 3, 3",
    )
    parser.add_argument(
        "--normalizer", default="basic", help="reported beside the raw texts, which are always there (default: basic)"
    )
    speakers = parser.add_mutually_exclusive_group()
    speakers.add_argument("--speakers", type=Path, help="id<TAB>speaker, for intervals over speakers or talks")
    speakers.add_argument(
        "--speaker-regex", metavar="REGEX", help="the speaker is the first group (or all) of its match at an id's start"
    )
    parser.add_argument(
        "--bootstrap", type=int, default=1000, metavar="B", help="resamples (default: 1000); 0: no intervals"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the resamples (default: 0)")
    parser.add_argument("--worst", type=int, default=0, metavar="N", help="show the N utterances with most errors")
    parser.add_argument("--json", action="store_true", help="print JSON; rates are fractions")
    return parser


def _speakers(ids: list[str], file: Path | None, regex: str | None) -> list[str] | None:
    if file is not None:
        table = read_texts(file)
        missing = [utterance_id for utterance_id in ids if not table.get(utterance_id, "").strip()]
        if missing:
            shown = ", ".join(missing[:5]) + (", …" if len(missing) > 5 else "")
            raise TextError(f"{file} names no speaker for {len(missing)} of {len(ids)} utterances ({shown}); add them")
        return [table[utterance_id].strip() for utterance_id in ids]
    if regex is None:
        return None
    try:
        pattern = re.compile(regex)
    except re.error as error:
        raise ConfigError(f"--speaker-regex '{regex}' is not a regular expression: {error}") from error
    matches = [pattern.match(utterance_id) for utterance_id in ids]
    speakers = [(match.group(1 if pattern.groups else 0) or "") if match else "" for match in matches]
    if "" in speakers:
        raise ConfigError(
            f"--speaker-regex '{regex}' finds no speaker in {speakers.count('')} of {len(ids)} ids, "
            f"first in '{ids[speakers.index('')]}'; it is matched at the start of the id"
        )
    return speakers


def _to_json(
    options: argparse.Namespace,
    results: dict[str, ErrorRates],
    comparisons: dict[str, Comparison],
    bad: list[BadUtterance],
) -> dict[str, Any]:
    return {
        "ref": str(options.ref),
        "hyp": str(options.hyp),
        "alignment": options.alignment,
        "empty_reference_policy": EMPTY_REFERENCES,
        "results": {name: result.to_dict() for name, result in results.items()},
        "compare": None
        if options.compare is None
        else {"baseline": str(options.compare), **{name: c.to_dict() for name, c in comparisons.items()}},
        "worst": [entry.to_dict() for entry in bad],
    }


def _to_text(
    options: argparse.Namespace,
    results: dict[str, ErrorRates],
    comparisons: dict[str, Comparison],
    bad: list[BadUtterance],
) -> str:
    final = list(results.values())[-1]
    counts = final.counts
    speakers = f", {final.interval_speakers.units} speakers" if counts.speakers[0] else ""
    parts = [
        f"{options.hyp} against {options.ref}: {len(counts.ids)} utterances{speakers}; alignment {options.alignment}",
        _rates(results),
        f"intervals: 95 %, {options.bootstrap} bootstrap resamples, seed {options.seed}"
        if options.bootstrap
        else "intervals: none (--bootstrap 0)",
    ]
    notes = (final.interval.note, final.interval_speakers.note) if options.bootstrap else ()
    parts += [f"  {note}" for note in notes if note]
    if counts.empty_references:
        parts.append(f"{counts.empty_references} empty references, {EMPTY_REFERENCES}")
    for name, comparison in comparisons.items():
        parts.append(_comparison(options, name, comparison))
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
                str(count_loops(zip(result.counts.references, result.counts.hypotheses, strict=True)).loops),
            ]
        )
    return format_columns(header, body, left=1)


def _comparison(options: argparse.Namespace, name: str, comparison: Comparison) -> str:
    difference, test = comparison.difference, comparison.mapsswe
    relative = "-" if difference.relative is None else f"{percent(difference.relative, sign=True)} %"
    z, p = ("-" if value is None else f"{value:.3g}" for value in (test.z, test.p))
    lines = [
        f"\nWER minus that of {options.compare}, normalizer {name}:",
        f"  absolute {percent(difference.difference, sign=True)} points, over utterances "
        f"{percent_interval(difference.interval.bounds, sign=True)}, over speakers "
        f"{percent_interval(difference.interval_speakers.bounds, sign=True)}",
        f"  relative {relative} {percent_interval(difference.interval_relative.bounds, sign=True)}",
        f"  MAPSSWE: {test.segments} segments, z {z}, p {p}: {test.verdict}{f' ({test.note})' if test.note else ''}",
    ]
    return "\n".join(lines)
