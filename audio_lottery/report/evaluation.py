"""What ``audio-lottery evaluate`` leaves: a table for people, a JSON file for programs, the transcripts for both."""

import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from audio_lottery.evaluation.counts import count_errors
from audio_lottery.evaluation.evaluate import SuiteOutcome
from audio_lottery.evaluation.repetitions import LEAST
from audio_lottery.evaluation.worst import worst
from audio_lottery.lottery.provenance import software
from audio_lottery.report.columns import format_columns, percent, percent_interval
from audio_lottery.storage import write_bytes, write_json

SCHEMA = 1

_HEADER = [
    "suite",
    "WER %",
    "95 % utterances",
    "95 % speakers",
    "raw WER %",
    "CER %",
    "S",
    "D",
    "I",
    "loops",
    "loop words",
    "words",
    "NIST WER %",
]


def format_results(results: Mapping[str, Mapping[str, Any]]) -> str:
    """One line per suite as aligned text; the normaliser and what was not scored as usual stand below."""
    body = [_cells(name, result) for name, result in results.items()]
    return "\n".join([format_columns(_header(results), body, left=1), "", *_notes(results)])


def write_evaluation(folder: Path, checkpoint: str, outcome: Mapping[str, SuiteOutcome], worst_count: int = 10) -> None:
    """Write ``evaluation.json``, ``evaluation.md`` and ``hypotheses/<suite>.tsv`` (and n-best lists, if any).

    Args:
        folder: made if it is not there; files of an earlier evaluation are replaced one by one.
        checkpoint: what was evaluated, as the user named it.
        outcome: suite → evaluation.
        worst_count: utterances with most errors shown for each suite.

    Raises:
        StorageError: a file could not be written.
    """
    results = {name: evaluation.result for name, evaluation in outcome.items()}
    for name, evaluation in outcome.items():
        evaluation.transcripts.write(folder / "hypotheses" / f"{name}.tsv")
        if any(len(hypotheses) > 1 for hypotheses in evaluation.transcripts.nbest):
            write_bytes(folder / "hypotheses" / f"{name}.nbest.tsv", _nbest(evaluation).encode())
    write_bytes(folder / "evaluation.md", _markdown(checkpoint, outcome, worst_count).encode())
    write_json(
        folder / "evaluation.json", {"schema": SCHEMA, "checkpoint": checkpoint, **software(), "suites": results}
    )


def _header(results: Mapping[str, Mapping[str, Any]]) -> list[str]:
    return [*_HEADER, *(f"{name} WER %" for name in next(iter(results.values()))["beside"])]


def _cells(name: str, result: Mapping[str, Any]) -> list[str]:
    return [
        name,
        percent(result["wer"]),
        percent_interval(result["wer_interval"]),
        percent_interval(result["wer_interval_speakers"]),
        percent(result["raw"]["wer"]),
        percent(result["cer"]),
        str(result["substitutions"]),
        str(result["deletions"]),
        str(result["insertions"]),
        str(result["loops"]),
        str(result["loop_words"]),
        str(result["reference_words"]),
        percent(result["nist"]["wer"]),
        *(percent(rates["wer"]) for rates in result["beside"].values()),
    ]


def _notes(results: Mapping[str, Mapping[str, Any]]) -> list[str]:
    first = next(iter(results.values()))
    notes = [
        f"{first['utterances']} utterances, {first['audio_seconds'] / 3600:.2f} h of {', '.join(first['corpora'])}; "
        f"normaliser {first['normalizer']} (raw: none); decoder {first['decoder']}; "
        f"intervals from {first['bootstrap']['resamples']} bootstrap resamples",
        *first["bootstrap"]["notes"],
    ]
    if first["empty_references"]:
        notes.append(f"{first['empty_references']} empty references: every word recognised there is an insertion")
    return notes


def _markdown(checkpoint: str, outcome: Mapping[str, SuiteOutcome], worst_count: int) -> str:
    results = {name: evaluation.result for name, evaluation in outcome.items()}
    header = _header(results)
    lines = [f"# {checkpoint}", "", _row(header), _row(["---"] + ["---:"] * (len(header) - 1))]
    lines += [_row(_cells(name, result)) for name, result in results.items()]
    lines += ["", *_notes(results), ""]
    lines += [
        "WER and CER in per cent. S, D, I: substitutions, deletions and insertions of the minimum-error alignment; "
        "NIST WER is counted on the alignment with sclite's weights (substitution 4, deletion 3, insertion 3). "
        f"Loops: words that stand {LEAST} times in a row or more, and more often than in the reference; "
        "loop words: what they have beyond it, most of them insertions.",
        "",
        f"{platform.machine()}, {torch.get_num_threads()} threads; versions are in evaluation.json.",
    ]
    for name, evaluation in outcome.items():
        transcripts = evaluation.transcripts
        normalizer = evaluation.result["normalizer"]
        counts = count_errors(
            transcripts.ids, transcripts.references, transcripts.hypotheses, normalizer, speakers=transcripts.speakers
        )
        lines += ["", f"## Worst utterances: {name}"]
        for entry in worst(counts, worst_count):
            lines += ["", f"`{entry.id}`: {entry.errors} errors in {entry.reference_words} words", "", "```"]
            lines += [entry.alignment, "```"]
    return "\n".join(lines) + "\n"


def _nbest(evaluation: SuiteOutcome) -> str:
    lines = ["id\trank\tscore\thypothesis"]
    for utterance_id, hypotheses in zip(evaluation.transcripts.ids, evaluation.transcripts.nbest, strict=True):
        lines += [f"{utterance_id}\t{rank}\t{h.score:.4f}\t{h.text}" for rank, h in enumerate(hypotheses, start=1)]
    return "\n".join(lines) + "\n"


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"
