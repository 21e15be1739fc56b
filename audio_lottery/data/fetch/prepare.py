"""``audio-lottery prepare``: from an archive, a folder or a download to what a configuration can name.

Everything is done once: a download that is whole, an archive that is extracted and a manifest that is sealed are
found again, and a call that was killed goes on where it was.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from audio_lottery.data.corpora import CORPORA
from audio_lottery.data.corpora._files import absolute
from audio_lottery.data.corpora.catalogue import Archive
from audio_lottery.data.corpora.record import CorpusKind, Layout, check_splits
from audio_lottery.data.fetch.noise import NOISES, place
from audio_lottery.data.fetch.sources import Source, everything, fetch_source, open_sources
from audio_lottery.data.fetch.speech import prepare_split
from audio_lottery.data.walk import visible
from audio_lottery.errors import CorpusError, storage_error
from audio_lottery.storage import file_lock


def prepare_corpus(
    corpus: str,
    out: Path,
    sources: Sequence[Path] = (),
    splits: Sequence[str] = (),
    *,
    download: bool = False,
    mirror: str | None = None,
    release: int = 3,
    force: bool = False,
) -> list[dict[str, Any]]:
    """Prepare a corpus.

    Args:
        corpus: a key of `CORPORA` or `NOISES`; - stands for _ too.
        out: folder of the result; several corpora may share one.
        sources: folders or archives on disk; for jsonl manifests or folders of them.
        splits: names of splits (for demand: environments); none for all, or the usual ones.
        download: fetch the archives instead.
        mirror: URL of a folder that holds the same archives, instead of the publisher's.
        release: of TED-LIUM, for a download.
        force: make manifests again even if they are there.

    Returns:
        One summary per split or part, see `speech.Tally.summary` and `noise.place`.

    Raises:
        CorpusError: no or unknown source, an unknown split, a corpus that is damaged or not in its official layout.
        AudioError: an audio file that cannot be read.
        StorageError: not enough space, or a file cannot be written.
    """
    out = absolute(Path(out).expanduser())
    if bool(sources) == download:
        raise CorpusError(f"{corpus}: give either --source (archives or folders on disk) or --download")
    if mirror and not download:
        raise CorpusError(f"{corpus}: --mirror goes with --download")
    corpus = corpus.replace("-", "_")
    noise, speech = NOISES.get(corpus), CORPORA.get(corpus)
    kind = noise or speech
    if kind is None:
        raise CorpusError(f"{corpus}: not a corpus; there are {', '.join([*CORPORA, *NOISES])}")
    if splits and noise is not None and not (noise.named and download):
        raise CorpusError(f"{corpus}: --split names nothing here; all that is there is divided into train and test")
    sources = [absolute(Path(source).expanduser()) for source in sources]
    archives: list[Archive] = []
    if download:
        if kind.archives is None:
            raise CorpusError(f"{corpus}: there is nothing to download; name what is on disk with --source")
        archives = kind.archives(splits, release)
    try:
        out.mkdir(parents=True, exist_ok=True)
        with file_lock(out / ".lock"):  # of two processes one works and the other then finds everything done
            if speech is not None and speech.find is None:
                return _manifests(corpus, speech, sources, splits, out, force)
            keep = noise.keep if noise is not None else everything
            opened = open_sources(sources, out, keep) + [fetch_source(a, out, mirror, keep) for a in archives]
            if speech is not None and speech.find is not None:
                layouts = [speech.find(source.path) for source in opened]
                return _speech(corpus, speech, list(zip(layouts, opened, strict=True)), splits, out, force)
            return place(corpus, opened, out, force)
    except OSError as error:
        raise storage_error(error.filename or out, error) from error


def _speech(
    corpus: str,
    kind: CorpusKind,
    sources: Sequence[tuple[Layout, Source]],
    splits: Sequence[str],
    out: Path,
    force: bool,
) -> list[dict[str, Any]]:
    found: dict[str, tuple[Path, Source]] = {}
    usual: list[str] = []
    for layout, source in sources:
        for split in layout.splits:
            if split in found:
                raise CorpusError(
                    f"{corpus}: split '{split}' is in {found[split][0]} and in {layout.root}; name one source"
                )
            found[split] = layout.root, source
        usual += layout.usual
    check_splits(sorted(found), splits, corpus)
    summaries = []
    for split in splits or usual:
        root, source = found[split]
        read = partial(kind.read, root, split)
        summaries.append(prepare_split(corpus, split, read, source.origin | {"path": str(root)}, out, force))
    return summaries


def _manifests(
    corpus: str, kind: CorpusKind, sources: Sequence[Path], splits: Sequence[str], out: Path, force: bool
) -> list[dict[str, Any]]:
    manifests: dict[str, Path] = {}
    for file in _manifest_files(corpus, sources):
        if file.stem in manifests:
            raise CorpusError(f"{corpus}: split '{file.stem}' is in {manifests[file.stem]} and in {file}; rename one")
        manifests[file.stem] = file
    check_splits(sorted(manifests), splits, corpus)
    summaries = []
    for split in splits or list(manifests):
        file = manifests[split]
        status = file.stat()
        origin = {"path": str(file), "bytes": status.st_size, "modified_ns": status.st_mtime_ns}
        read = partial(kind.read, file.parent, file.name)
        summaries.append(prepare_split(corpus, split, read, origin, out, force))
    return summaries


def _manifest_files(corpus: str, sources: Sequence[Path]) -> Iterator[Path]:
    for source in sources:
        if source.is_dir():
            found = sorted(file for end in ("jsonl", "json") for file in visible(source, f"*.{end}"))
            if not found:
                raise CorpusError(f"{corpus}: no .jsonl or .json file in {source}")
            yield from found
        elif source.is_file() and source.suffix in (".jsonl", ".json"):
            yield source
        else:
            raise CorpusError(f"source {source} is neither a .jsonl or .json file nor a folder of them")
