"""``audio-lottery prepare``: from an archive, a folder or a download to what a configuration can name.

Everything is done once: a download that is whole, an archive that is extracted and a manifest that is sealed are
found again, and a call that was killed goes on where it was.
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from audio_lottery.data.corpora import READERS
from audio_lottery.data.corpora._files import absolute, listed
from audio_lottery.data.fetch.catalogue import DEMAND, LIBRISPEECH, MUSAN, RIRS, TEDLIUM, Archive
from audio_lottery.data.fetch.layouts import TED_SPLITS, find_splits
from audio_lottery.data.fetch.noise import keep_demand, place
from audio_lottery.data.fetch.sources import Source, everything, fetch_source, open_sources
from audio_lottery.data.fetch.speech import prepare_split
from audio_lottery.data.walk import visible
from audio_lottery.errors import CorpusError, storage_error
from audio_lottery.storage import file_lock

SPEECH = {"librispeech": "librispeech", "common-voice": "common_voice", "tedlium": "tedlium"}
"""Name on the command line → reader."""

NOISE = ("musan", "demand", "rirs")

_COMMON_VOICE = (
    "common-voice: Mozilla gives no link to download from; get cv-corpus-...-LOCALE.tar.gz with your own account from "
    "https://datacollective.mozillafoundation.org and run `audio-lottery prepare common-voice --source THAT_FILE`"
)


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
        corpus: librispeech, common-voice, tedlium, musan, demand, rirs or jsonl.
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
    if splits and (corpus in ("musan", "rirs") or (corpus == "demand" and not download)):
        raise CorpusError(f"{corpus}: --split names nothing here; all that is there is divided into train and test")
    sources = [absolute(Path(source).expanduser()) for source in sources]
    archives = _archives(corpus, splits, release) if download else []
    try:
        out.mkdir(parents=True, exist_ok=True)
        with file_lock(out / ".lock"):  # of two processes one works and the other then finds everything done
            if corpus == "jsonl":
                return _jsonl(sources, splits, out, force)
            keep = keep_demand if corpus == "demand" else everything
            opened = open_sources(sources, out, keep) + [fetch_source(a, out, mirror, keep) for a in archives]
            if corpus in NOISE:
                return place(corpus, opened, out, force)
            return _speech(SPEECH[corpus], opened, splits, out, force)
    except OSError as error:
        raise storage_error(error.filename or out, error) from error


def _archives(corpus: str, splits: Sequence[str], release: int) -> list[Archive]:
    if corpus == "librispeech":
        if not splits:
            sizes = listed([f"{split} ({archive.gigabytes:g} GB)" for split, archive in LIBRISPEECH.items()])
            raise CorpusError(f"librispeech: say which splits to download with --split: {sizes}")
        return _named(LIBRISPEECH, splits, corpus)
    if corpus == "tedlium":
        if release not in TEDLIUM:
            raise CorpusError(f"tedlium: there is no release {release}; there are {listed(list(map(str, TEDLIUM)))}")
        _known(TED_SPLITS, splits, corpus)  # before the download, and not after
        return [TEDLIUM[release]]
    if corpus == "demand":
        return _named(DEMAND, splits or list(DEMAND), corpus)
    if corpus in ("musan", "rirs"):
        return [MUSAN if corpus == "musan" else RIRS]
    if corpus == "common-voice":
        raise CorpusError(_COMMON_VOICE)
    raise CorpusError(f"{corpus}: there is nothing to download; name what is on disk with --source")


def _named(table: dict[str, Archive], splits: Sequence[str], corpus: str) -> list[Archive]:
    _known(table, splits, corpus)
    return [table[split] for split in splits]


def _known(there: Iterable[str], splits: Sequence[str], corpus: str) -> None:
    there = list(there)
    for split in splits:
        if split not in there:
            raise CorpusError(f"{corpus}: unknown split '{split}'; splits there: {listed(there)}")


def _speech(
    reader: str, sources: Sequence[Source], splits: Sequence[str], out: Path, force: bool
) -> list[dict[str, Any]]:
    found: dict[str, tuple[Path, Source]] = {}
    usual: list[str] = []
    for source in sources:
        root, there, here = find_splits(reader, source.path)
        for split in there:
            if split in found:
                raise CorpusError(f"{reader}: split '{split}' is in {found[split][0]} and in {root}; name one source")
            found[split] = root, source
        usual += here
    _known(sorted(found), splits, reader)
    summaries = []
    for split in splits or usual:
        root, source = found[split]
        read = partial(READERS[reader], root, split)
        summaries.append(prepare_split(reader, split, read, source.origin | {"path": str(root)}, out, force))
    return summaries


def _jsonl(sources: Sequence[Path], splits: Sequence[str], out: Path, force: bool) -> list[dict[str, Any]]:
    manifests: dict[str, Path] = {}
    for file in _jsonl_files(sources):
        if file.stem in manifests:
            raise CorpusError(f"jsonl: split '{file.stem}' is in {manifests[file.stem]} and in {file}; rename one")
        manifests[file.stem] = file
    _known(sorted(manifests), splits, "jsonl")
    summaries = []
    for split in splits or list(manifests):
        file = manifests[split]
        status = file.stat()
        origin = {"path": str(file), "bytes": status.st_size, "modified_ns": status.st_mtime_ns}
        read = partial(READERS["jsonl"], file.parent, file.name)
        summaries.append(prepare_split("jsonl", split, read, origin, out, force))
    return summaries


def _jsonl_files(sources: Sequence[Path]) -> Iterator[Path]:
    for source in sources:
        if source.is_dir():
            found = sorted(file for end in ("jsonl", "json") for file in visible(source, f"*.{end}"))
            if not found:
                raise CorpusError(f"jsonl: no .jsonl or .json file in {source}")
            yield from found
        elif source.is_file() and source.suffix in (".jsonl", ".json"):
            yield source
        else:
            raise CorpusError(f"source {source} is neither a .jsonl or .json file nor a folder of them")
