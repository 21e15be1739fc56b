"""One reader per corpus: official layout on disk in, manifest rows out.

A reader is a function ``read(root, split)`` that yields `Utterance` objects with absolute paths, in an order that the
files alone decide, and raises `CorpusError` or `AudioError` in one line that says which file (and line) is at fault.
Two corpora need no reader: `prepared` maps manifests that were made before, and `hub` reads what is a table already;
`load` knows them all.
"""

from pathlib import Path

from datasets import Dataset

from audio_lottery.data.corpora import common_voice, jsonl, librispeech, tedlium
from audio_lottery.data.corpora.record import CorpusKind
from audio_lottery.data.manifest import build_manifest
from audio_lottery.errors import CorpusError

CORPORA: dict[str, CorpusKind] = {
    "librispeech": librispeech.CORPUS,
    "common_voice": common_voice.CORPUS,
    "tedlium": tedlium.CORPUS,
    "jsonl": jsonl.CORPUS,
}
"""Name in a configuration → corpus. On the command line of ``prepare``, ``-`` stands for ``_``."""


def read_corpus(corpus: str, root: str | Path, split: str) -> Dataset:
    """The manifest of one split of a corpus on disk.

    Args:
        corpus: a key of `CORPORA`.
        root: the folder of the corpus; each reader says which folders it takes.
        split: as the corpus names it, e.g. ``train-clean-100``, ``validated``, ``dev``, ``train.jsonl``.

    Returns:
        A dataset with the columns of `audio_lottery.data.manifest.FEATURES`; ``corpus`` is ``"<corpus>/<split>"``.

    Raises:
        CorpusError: an unknown corpus, a missing folder or split, or files that are not in the official layout.
        AudioError: an audio file whose length cannot be read.
    """
    if corpus not in CORPORA:
        raise CorpusError(
            f"unknown corpus '{corpus}'; known: {', '.join(sorted(CORPORA))}; configurations may also name prepared, "
            "hub, mini-libri, mini-cv and mini-ted"
        )
    root = Path(root).expanduser()
    if not root.is_dir():
        raise CorpusError(f"{corpus}/{split}: missing corpus folder {root}; download the corpus or correct the path")
    return build_manifest(CORPORA[corpus].read(root, split), f"{corpus}/{split}")
