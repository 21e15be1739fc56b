"""``audio-lottery prepare``: make or fetch a corpus."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def main(arguments: list[str]) -> None:
    """Make or fetch one corpus, or learn a vocabulary from one."""
    if arguments[:1] == ["tokenizer"]:
        from audio_lottery.commands import tokenizer

        tokenizer.main(arguments[1:])
        return
    options = _parser().parse_args(arguments)
    if options.corpus == "mini":
        from audio_lottery.data.corpora.mini import prepare_mini

        made = prepare_mini(options.out, force=options.force)
        for name, folder in (("mini-libri", made.libri), ("mini-cv", made.cv), ("mini-ted", made.ted)):
            print(f"{name}: {folder}")
    elif options.corpus == "hub":
        from audio_lottery.data.corpora.hub import prepare_hub

        columns = dict(options.column)
        place = prepare_hub(
            options.source,
            options.split,
            options.out,
            subset=options.subset,
            revision=options.revision,
            columns=columns,
            limit=options.limit,
        )
        print(f"hub: {place}")
    else:
        from audio_lottery.data.fetch import prepare_corpus
        from audio_lottery.report.corpora import format_corpora

        summaries = prepare_corpus(
            options.corpus,
            options.out,
            options.source,
            options.split,
            download=options.download,
            mirror=options.mirror,
            release=getattr(options, "release", 3),
            force=options.force,
        )
        print(format_corpora(summaries))
        for line in _how_to_use(summaries, options.out):
            print(line)


def _how_to_use(summaries: Sequence[dict[str, Any]], out: Path) -> list[str]:
    """How a configuration names what was made."""
    if "utterances" not in summaries[0]:
        tops = sorted({summary["split"].split("/")[0] for summary in summaries if summary["files"]})
        return [f"{top}: {out / top}" for top in tops]
    return [
        f"{summary['corpus']}/{summary['split']}: "
        f"{{corpus: prepared, path: {out}, split: {summary['corpus']}-{summary['split']}}}"
        for summary in summaries
    ]


def _parser() -> argparse.ArgumentParser:
    from audio_lottery.data.corpora import CORPORA
    from audio_lottery.data.fetch.noise import NOISES

    parser = argparse.ArgumentParser(
        prog="audio-lottery prepare", epilog="`audio-lottery prepare tokenizer` learns word pieces from a corpus."
    )
    corpora = parser.add_subparsers(dest="corpus", required=True, metavar="corpus")
    summaries = {name: kind.summary for name, kind in CORPORA.items()} | {
        name: kind.summary for name, kind in NOISES.items()
    }
    for name, summary in summaries.items():
        _add_corpus(corpora.add_parser(name.replace("_", "-"), help=summary, description=summary), name)
    mini = corpora.add_parser("mini", help="synthesise mini-libri, mini-cv and mini-ted with eSpeak NG")
    mini.add_argument("--out", type=Path, default=None, help="folder (default: the cache that the recipes read)")
    mini.add_argument("--force", action="store_true", help="make it again even if it is there")
    hub = corpora.add_parser("hub", help="a speech dataset of the Hugging Face Hub, or parquet files, as files on disk")
    hub.add_argument("source", help="repository id, or folder of parquet files")
    hub.add_argument("--split", required=True, help="name of the split there")
    hub.add_argument("--out", type=Path, required=True, help="folder of the result")
    hub.add_argument("--subset", default=None, help="name of the dataset's configuration, e.g. clean")
    hub.add_argument("--revision", default=None, help="branch, tag or commit")
    hub.add_argument(
        "--column", type=_pair, action="append", default=[], metavar="OURS=THEIRS", help="e.g. text=sentence"
    )
    hub.add_argument("--limit", type=int, default=None, help="only this many utterances")
    return parser


def _add_corpus(parser: argparse.ArgumentParser, name: str) -> None:
    parser.add_argument("--out", type=Path, required=True, help="folder of the result; corpora may share one")
    parser.add_argument(
        "--source", type=Path, nargs="+", default=[], metavar="PATH", help="archives or folders that are on disk"
    )
    parser.add_argument("--download", action="store_true", help="fetch the archives; an interrupted fetch continues")
    parser.add_argument("--split", nargs="+", default=[], metavar="NAME", help="only these (demand: environments)")
    parser.add_argument("--mirror", default=None, metavar="URL", help="folder with the same archives elsewhere")
    parser.add_argument("--force", action="store_true", help="make the manifests again even if they are there")
    if name == "tedlium":
        parser.add_argument("--release", type=int, default=3, help="release to download: 1, 2 or 3 (default 3)")


def _pair(text: str) -> tuple[str, str]:
    ours, equals, theirs = text.partition("=")
    if not (ours and equals and theirs):
        raise argparse.ArgumentTypeError(f"'{text}' is not of the form OURS=THEIRS")
    return ours, theirs
