"""``audio-lottery prepare tokenizer``: a vocabulary of word pieces from the transcripts of a corpus."""

import argparse
from pathlib import Path


def main(arguments: list[str]) -> None:
    """Learn the vocabulary and write it as a folder for ``model.tokenizer``."""
    parser = argparse.ArgumentParser(
        prog="audio-lottery prepare tokenizer",
        description="Learn word pieces from transcripts; --model.tokenizer OUT then uses them instead of characters.",
    )
    parser.add_argument("--corpus", required=True, help="as data.train: prepared, jsonl, librispeech, mini-libri ...")
    parser.add_argument("--split", required=True, nargs="+", help="splits of the corpus")
    parser.add_argument("--path", default="", help="folder of the corpus, relative to --root")
    parser.add_argument("--root", type=Path, default=Path(), help="as data.root (default: here)")
    parser.add_argument("--normalizer", default="basic", help="as data.normalizer (default: basic)")
    parser.add_argument("--kind", choices=("bpe", "unigram"), default="bpe", help="default: bpe")
    parser.add_argument("--size", type=int, default=128, help="pieces in all, the CTC blank included (default: 128)")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    options = parser.parse_args(arguments)
    # Here and not above: they load transformers, and a mistake in the options should be told at once.
    from audio_lottery.config import CorpusConfig
    from audio_lottery.data.corpora.load import load_manifest
    from audio_lottery.data.text import get_normalizer
    from audio_lottery.models.tokenizers import train_tokenizer

    normalize = get_normalizer(options.normalizer)
    corpora = [CorpusConfig(options.corpus, split, options.path) for split in options.split]
    manifest = load_manifest(corpora, options.root.expanduser())
    tokenizer = train_tokenizer(map(normalize, manifest["text"]), options.kind, options.size)
    tokenizer.save_pretrained(options.out)
    print(f"{len(tokenizer)} pieces ({options.kind}) from {len(manifest)} transcripts: {options.out}")
    print(f"use it with --model.tokenizer {options.out}")
