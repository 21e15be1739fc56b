"""``audio-lottery prepare``: make or fetch a corpus."""

import argparse
from pathlib import Path

from audio_lottery.data.corpora.mini import prepare_mini


def main(arguments: list[str]) -> None:
    """Make or fetch one corpus."""
    parser = argparse.ArgumentParser(prog="audio-lottery prepare")
    corpora = parser.add_subparsers(dest="corpus", required=True, metavar="corpus")
    mini = corpora.add_parser("mini", help="synthesise mini-libri, mini-cv and mini-ted with eSpeak NG")
    mini.add_argument("--out", type=Path, default=None, help="folder (default: the cache that the recipes read)")
    mini.add_argument("--force", action="store_true", help="make it again even if it is there")
    options = parser.parse_args(arguments)
    made = prepare_mini(options.out, force=options.force)
    for name, folder in (("mini-libri", made.libri), ("mini-cv", made.cv), ("mini-ted", made.ted)):
        print(f"{name}: {folder}")
