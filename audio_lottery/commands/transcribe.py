"""``audio-lottery transcribe``: recordings into text, and speech while it is spoken."""

import argparse
import json
import logging
import os
import sys
import time
from contextlib import suppress
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonargparse import ArgumentError

from audio_lottery.config import DecoderConfig
from audio_lottery.errors import AudioError, ConfigError
from audio_lottery.settings import make_parser, to_config
from audio_lottery.sparse.precision import PRECISIONS
from audio_lottery.storage import write_bytes
from audio_lottery.transcribe.formats import FORMATS, to_json

if TYPE_CHECKING:
    from audio_lottery.transcribe import Recogniser, Transcript, Windowing
    from audio_lottery.transcribe.files import AudioFile

logger = logging.getLogger(__name__)

# What goes onto the screen for many files one after the other; the others need a file each.
_TOGETHER = ("text", "json")


def main(arguments: list[str]) -> None:
    """Transcribe files, folders and patterns, or standard input."""
    options = _parser().parse_args(arguments)
    decoder = _decoder(options)
    if options.stream:
        _check_stream(options)
    elif not options.files:
        raise ConfigError("name a file, folder or pattern behind the model, or give --stream")
    # Here and not above: they load torch, and a mistake in the options should be told at once.
    from audio_lottery.transcribe import Recogniser, Windowing
    from audio_lottery.transcribe.files import check_names, find_audio

    files = find_audio(options.files)
    if options.out is not None:
        check_names(files)
    elif len(files) > 1 and options.format not in _TOGETHER:
        raise ConfigError(f"--format {options.format} of {len(files)} files needs a folder for them: --out FOLDER")
    if options.window is not None:
        Windowing.up_to(options.window)  # a mistake in it should be told before the model is loaded
    recogniser = Recogniser.load(
        options.model,
        revision=options.revision,
        precision=options.precision,
        threads=options.threads,
        decoder=decoder,
        accelerate=None if options.accelerate else False,
    )
    if options.stream:
        _live(recogniser, options.format)
    else:
        _files(recogniser, files, recogniser.windowing(options.window), options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="audio-lottery transcribe",
        description="Text of recordings of any length, rate and number of channels. Sparse models run on the sparse "
        "kernels of audio_lottery.sparse.accelerate. Text goes to standard output, or with --out into a file each; "
        "progress and notes go to standard error.",
    )
    parser.add_argument("model", metavar="MODEL", help="folder (also with model.sparse.safetensors) or Hub id")
    parser.add_argument(
        "files", metavar="FILE", nargs="*", help="files, folders, or patterns such as 'talks/**/*.flac'"
    )
    parser.add_argument("--format", choices=list(FORMATS), default="text", help="(default: text)")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="a file for each recording goes there")
    parser.add_argument("--precision", choices=PRECISIONS, default="float32", help="(default: float32)")
    parser.add_argument("--threads", type=int, help="(default: torch's)")
    parser.add_argument("--no-accelerate", dest="accelerate", action="store_false", help="run sparse models as dense")
    parser.add_argument(
        "--window", type=float, metavar="SECONDS", help="longest piece at once (default: 20, of Whisper 29)"
    )
    parser.add_argument("--revision", help="branch, tag or commit of a Hub id")
    parser.add_argument(
        "--stream",
        action="store_true",
        help="read 16 kHz 16-bit mono PCM from standard input and write while it comes in; for models that stream",
    )
    group = parser.add_argument_group("decoder", "as `evaluate` has it: docs/decoding.md")
    group.add_argument(
        "--decoder", default="greedy", metavar="KIND", help="greedy (default), beam, or what tune-decoder wrote"
    )
    group.add_argument("--lm", metavar="FILE", help="n-gram language model: ARPA (may be gzipped), KenLM binary")
    group.add_argument("--lexicon", metavar="FILE", help="lines of word, tab, c h a r s | (else the LM's words)")
    group.add_argument("--lm-weight", type=float, help=f"(default: {DecoderConfig.lm_weight:g})")
    group.add_argument("--word-score", type=float, help=f"(default: {DecoderConfig.word_score:g})")
    group.add_argument("--beam-size", type=int, help=f"(default: {DecoderConfig.beam_size})")
    return parser


def _decoder(options: argparse.Namespace) -> DecoderConfig:
    """The decoder of the options, laid over that of a file.

    Raises:
        ConfigError: no such kind or file, or an option of beam search where search is greedy.
    """
    known = {one.name for one in fields(DecoderConfig)}
    given = {name: value for name, value in vars(options).items() if name in known and value is not None}
    if options.decoder in ("greedy", "beam"):
        decoder = DecoderConfig(kind=options.decoder)
    elif Path(options.decoder).suffix in (".yaml", ".yml"):
        decoder = _decoder_in(options.decoder)
    else:
        raise ConfigError(f"--decoder {options.decoder} is neither greedy, beam nor a .yaml file of tune-decoder")
    if decoder.kind == "greedy" and given:
        listed = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise ConfigError(f"{listed}: greedy search takes none; add --decoder beam")
    return replace(decoder, **given)


def _decoder_in(file: str) -> DecoderConfig:
    """The decoder in a file as `audio-lottery tune-decoder` writes it.

    Raises:
        ConfigError: it cannot be read, or has settings that do not exist.
    """
    parser = make_parser("audio-lottery transcribe")
    try:
        return to_config(parser, parser.parse_args(["--config", file])).evaluation.decoder
    except ArgumentError as error:
        raise ConfigError(f"--decoder {file}: {error}") from error


def _check_stream(options: argparse.Namespace) -> None:
    if options.files or options.out is not None:
        raise ConfigError("--stream reads standard input and writes standard output: name no FILE and no --out")
    if options.format not in _TOGETHER:
        raise ConfigError(f"--stream writes {' or '.join(_TOGETHER)} and no {options.format}")
    if options.decoder != "greedy":
        raise ConfigError("--stream searches greedily: leave --decoder out")
    if sys.stdin.isatty():
        raise ConfigError("--stream reads speech from standard input: arecord -f S16_LE -r 16000 | audio-lottery ...")


def _live(recogniser: "Recogniser", form: str) -> None:
    """Write what is said, line by line."""
    screen = sys.stdout.isatty() and form == "text"
    for line in recogniser.live(lambda size: os.read(sys.stdin.fileno(), size)):
        if form == "json":
            shown = asdict(line) | {"start": round(line.start, 3), "end": round(line.end, 3)}
            print(json.dumps(shown, ensure_ascii=False), flush=True)
        elif screen:  # a line that grows in its place
            print(f"\r\033[K{line.text}", end="\n" if line.final else "", flush=True)
        else:
            print(f"{'final' if line.final else 'partial'}: {line.text}", flush=True)


def _files(recogniser: "Recogniser", files: "list[AudioFile]", windowing: "Windowing", options: Any) -> None:
    """Transcribe files one after the other; those that cannot be read are named, and the others go on.

    Raises:
        AudioError: at the end, where a file could not be read.
    """
    from tqdm import tqdm

    from audio_lottery.transcribe import Failure

    failed, seconds, begin = 0, 0.0, time.perf_counter()
    with tqdm(total=_seconds(files), unit="s", desc="transcribe", leave=False, disable=None) as bar:
        paths = [file.path for file in files]
        found = recogniser.transcribe_all(paths, windowing=windowing, progress=lambda done: bar.update(round(done)))
        for file, one in zip(files, found, strict=True):
            if isinstance(one, Failure):
                failed += 1
                logger.error("%s", one.error)
            else:
                seconds += one.duration
                _write(one, file, len(files), options)
    taken = time.perf_counter() - begin
    kernels = "sparse kernels" if recogniser.accelerated else "dense"
    logger.info(
        f"{len(files) - failed} of {len(files)} files, {seconds:.1f} s of audio in {taken:.1f} s: "
        f"{seconds / taken:.1f} x real time ({options.precision}, {kernels})"
    )
    if failed:
        raise AudioError(f"{failed} of {len(files)} files could not be transcribed: they are named above")


def _write(transcript: "Transcript", file: "AudioFile", files: int, options: Any) -> None:
    ending, write = FORMATS[options.format]
    if options.out is not None:
        write_bytes(options.out / f"{file.name}{ending}", write(transcript).encode())
    elif files == 1:
        print(write(transcript), end="", flush=True)
    elif options.format == "json":
        print(to_json(transcript, indent=None), end="", flush=True)
    else:
        print(f"{file.path}\t{transcript.text}", flush=True)


def _seconds(files: "list[AudioFile]") -> int | None:
    """Length of all files, for the progress bar; None where nobody looks at one."""
    from audio_lottery.data.audio import probe

    if not sys.stderr.isatty():
        return None
    total = 0.0
    for file in files:
        with suppress(AudioError):  # told when its turn comes
            total += probe(file.path).duration
    return round(total)
