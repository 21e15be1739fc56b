"""``audio-lottery export``: a model as a file of ONNX Runtime or OpenVINO, and what a service needs beside it."""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from audio_lottery.config import ModelConfig
from audio_lottery.errors import ConfigError
from audio_lottery.settings import named_corpus

if TYPE_CHECKING:
    import numpy as np


def main(arguments: list[str]) -> None:
    """Export, compare, print."""
    parser = argparse.ArgumentParser(
        prog="audio-lottery export",
        description="Write a model for a given runtime: its file, zeros kept; processor and recogniser.json; and "
        "recognise.py, which runs it without torch. Its outputs are compared with torch's before it is there. "
        "Other runtimes compute with zeros as with any number: docs/deploy.md says what to expect.",
    )
    parser.add_argument("model", metavar="MODEL", help="folder (also with model.sparse.safetensors) or Hub id")
    parser.add_argument("out", metavar="OUT", type=Path, help="folder to write: new or empty")
    parser.add_argument("--to", required=True, metavar="RUNTIME", help="onnx or openvino")
    parser.add_argument("--precision", default="float32", help="float32 (default), or with openvino int8")
    parser.add_argument(
        "--calibration",
        nargs="+",
        metavar="SPEECH",
        default=[],
        help="what int8 is fitted to: audio files or folders, FILE.jsonl, or CORPUS:SPLIT[:PATH]",
    )
    parser.add_argument("--utterances", type=int, default=100, help="of each corpus for calibration (default: 100)")
    parser.add_argument("--revision", help="branch, tag or commit of a Hub id")
    parser.add_argument("--force", action="store_true", help="replace an earlier export")
    options = parser.parse_args(arguments)
    if options.utterances < 2:
        raise ConfigError(f"--utterances {options.utterances}: int8 is fitted to two or more")
    # Here and not above: they load torch, and a mistake in the options should be told at once.
    from audio_lottery.export import export
    from audio_lottery.export.write import check_folder, check_settings
    from audio_lottery.models.load import load_trained
    from audio_lottery.report.exported import format_exported

    check_settings(options.to, options.precision, bool(options.calibration))
    check_folder(options.out.absolute(), options.force)
    backbone = load_trained(ModelConfig(init=options.model, revision=options.revision))
    done = export(
        backbone,
        options.to,
        options.out,
        precision=options.precision,
        calibration=speech(options.calibration, options.utterances),
        force=options.force,
    )
    print(format_exported(done))


def speech(named: Sequence[str], utterances: int) -> "list[np.ndarray]":
    """Samples of what ``--calibration`` names.

    Args:
        named: files and folders that are there, or corpora.
        utterances: of each corpus, from all over it.

    Raises:
        ConfigError: neither there nor a corpus.
        CorpusError: a corpus that cannot be read.
        AudioError: a file that cannot be.
    """
    from audio_lottery.data.audio import read_audio
    from audio_lottery.data.corpora.load import load_manifest
    from audio_lottery.data.manifest import iterate
    from audio_lottery.transcribe.files import find_audio

    found = []
    for name in named:
        if Path(name).exists() and Path(name).suffix != ".jsonl":
            found += [read_audio(file.path) for file in find_audio([name])]
        else:
            corpus = replace(named_corpus(name, "--calibration"), limit=utterances)
            rows = iterate(load_manifest([corpus], Path()))
            found += [read_audio(row.audio, row.start, row.end, utterance_id=row.id) for row in rows]
    return found
