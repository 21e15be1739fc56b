"""``audio-lottery report``: one page of a search, or of several side by side."""

import argparse
from pathlib import Path

from audio_lottery.errors import ConfigError

FILE = "report.html"


def main(arguments: list[str]) -> None:
    """Read run folders and write their page."""
    parser = argparse.ArgumentParser(
        prog="audio-lottery report",
        description="One self-contained HTML page: WER against remaining weights, tickets, layers, training curves, "
        "sizes, transcripts with audio. Several runs share one page, a curve each; runs given the same NAME are seeds "
        "of one configuration and share a curve.",
    )
    parser.add_argument("runs", nargs="+", metavar="[NAME=]RUN", help="run folder; NAME is that of its curve")
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help=f"default: {FILE} in the run folder, or here where there are several"
    )
    parser.add_argument("--title", default="", help="default: the names of the runs")
    parser.add_argument("--command", default="", help="how the runs were made, to be shown; default: the search")
    parser.add_argument(
        "--utterances", type=int, default=5, metavar="N", help="with most errors, and as many at random (default: 5)"
    )
    parser.add_argument("--audio-mb", type=float, default=3.0, help="limit of the audio in MB (default: 3); 0: none")
    parser.add_argument("--seed", type=int, default=0, help="of the random utterances (default: 0)")
    options = parser.parse_args(arguments)
    named = name_runs(options.runs)

    from audio_lottery.report.page import read_group, write_page

    first = next(iter(named.values()))
    out = options.out or (first[0] / FILE if len(named) == len(first) == 1 else Path(FILE))
    write_page(
        [read_group(name, folders) for name, folders in named.items()],
        out,
        title=options.title,
        command=options.command,
        utterances=options.utterances,
        audio_bytes=round(1e6 * options.audio_mb),
        seed=options.seed,
    )
    print(f"report: {out}")


def name_runs(words: list[str]) -> dict[str, list[Path]]:
    """``[NAME=]RUN`` words as name → run folders, in the order given; a folder without a name has its own.

    Raises:
        ConfigError: a folder twice, or two different ones of the same name that were not named.
    """
    named: dict[str, list[Path]] = {}
    unnamed: set[str] = set()
    for word in words:
        name, equals, folder = word.partition("=")
        if not equals or Path(word).is_dir():  # a folder's own name may hold a =
            folder = word
            name = Path(word).resolve().name
            if name in named:
                raise ConfigError(f"two runs are called '{name}'; name them: NAME={named[name][0]} OTHER={folder}")
            unnamed.add(name)
        elif not name or not folder:
            raise ConfigError(f"'{word}' is neither RUN nor NAME=RUN")
        elif name in unnamed:
            raise ConfigError(f"two runs are called '{name}'; give the first a NAME= as well")
        named.setdefault(name, []).append(Path(folder))
    folders = [folder.resolve() for several in named.values() for folder in several]
    if len(set(folders)) < len(folders):
        raise ConfigError("a run folder was given twice")
    return named
