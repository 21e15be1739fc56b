"""Which rows are meant, and how they are reached: a repository on the Hub, or parquet files on disk."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import huggingface_hub
from datasets import load_dataset_builder
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

from audio_lottery.config import CorpusConfig
from audio_lottery.data.corpora._files import absolute, listed
from audio_lottery.errors import AudioLotteryError, CorpusError

MANIFEST_COLUMNS = ("audio", "text", "id", "speaker")

# owner/name, or name alone for the oldest repositories; as the Hub itself checks it.
_REPOSITORY = re.compile(r"[\w.-]+(/[\w.-]+)?", re.ASCII)
# Signed addresses carry their key after the question mark.
_SECRETS = re.compile(r"\?\S+|\bhf_\w+")

_LONGEST = 300  # characters of another library's message
_TIMEOUT = 30.0  # seconds for the one call that datasets does not make itself


@dataclass(frozen=True)
class HubSplit:
    """One split of one dataset.

    Attributes:
        source: repository id on the Hub, or a folder or parquet file on disk, as the user wrote it.
        path: the absolute path of what is on disk; empty for the Hub.
        split: the split's name (not used for a single file).
        subset: the dataset's configuration.
        revision: branch, tag or commit on the Hub.
        columns: manifest column → column of the dataset; an empty name says that there is none.
        limit: at most this many rows, the first ones.
    """

    source: str
    path: str
    split: str
    subset: str | None
    revision: str | None
    columns: dict[str, str]
    limit: int | None

    @classmethod
    def make(
        cls,
        source: str,
        split: str,
        *,
        subset: str | None = None,
        revision: str | None = None,
        columns: Mapping[str, str] | None = None,
        limit: int | None = None,
        root: Path | None = None,
    ) -> "HubSplit":
        """Check a request. What exists on disk, under ``root``, comes before a repository of the same name.

        Raises:
            CorpusError: no such folder and no possible repository id, an unknown key in ``columns``, a limit below 1.
        """
        found = absolute((root or Path()) / Path(source).expanduser())
        path = str(found) if source and found.exists() else ""
        made = cls(source, path, split, subset or None, revision or None, dict(sorted((columns or {}).items())), limit)
        if not path and source and Path(source).exists():  # datasets would take it, and not the repository
            raise CorpusError(
                f"{made.name}: '{source}' is not a folder in {root}, but one in the working directory; give its full "
                "path, or start somewhere else to read the repository of that name"
            )
        if not path and not _REPOSITORY.fullmatch(source):
            raise CorpusError(f"{made.name}: no folder or parquet file {found}, and '{source}' is not a repository id")
        unknown = sorted(set(made.columns) - set(MANIFEST_COLUMNS))
        if unknown:
            raise CorpusError(
                f"{made.name}: columns has the unknown key '{unknown[0]}'; it maps {listed(list(MANIFEST_COLUMNS))} to "
                "columns of the dataset"
            )
        if limit is not None and limit < 1:
            raise CorpusError(f"{made.name}: limit is {limit}; it must be 1 or more")
        return made

    @classmethod
    def from_config(cls, corpus: CorpusConfig, root: Path) -> "HubSplit":
        """The split that a configuration names.

        Raises:
            CorpusError: as `make`, or the configuration has no path.
        """
        if not corpus.path:
            raise CorpusError(f"hub/{corpus.split}: needs path: a repository id, or a folder or file of parquet data")
        return cls.make(
            corpus.path,
            corpus.split,
            subset=corpus.subset,
            revision=corpus.revision,
            columns=corpus.columns,
            limit=corpus.limit,
            root=root,
        )

    @property
    def name(self) -> str:
        """``hub:<source>/<subset>/<split>``, as it stands in the manifest's column ``corpus``."""
        return "hub:" + "/".join(part for part in (self.source, self.subset, self.split) if part)

    def origin(self) -> dict[str, Any]:
        """The request and, for what is on disk, the sizes and times of its files: equal origins, equal rows."""
        origin = asdict(self)
        if self.path:
            root = Path(self.path)
            files = [root] if root.is_file() else sorted([*root.rglob("*.parquet"), *root.glob("README.md")])
            stats = {str(file.relative_to(root.parent)): file.stat() for file in files}
            origin["files"] = {name: [stat.st_size, stat.st_mtime_ns] for name, stat in stats.items()}
        return origin


def find_commit(split: HubSplit) -> str | None:
    """The commit that the revision names now; None for what is on disk.

    Raises:
        CorpusError: the repository or revision does not exist, is gated, or the Hub cannot be reached.
    """
    if split.path:
        return None
    with one_line(split):
        sha: str | None = (
            huggingface_hub.HfApi().dataset_info(split.source, revision=split.revision, timeout=_TIMEOUT).sha
        )
    return sha


def find_files(split: HubSplit, commit: str | None = None) -> list[str]:
    """The parquet files of a split, in the order of the dataset: paths, or ``hf://`` addresses at one commit.

    Args:
        split: what to read.
        commit: of the repository; by default the one that the revision names now.

    Raises:
        CorpusError: repository, subset, split or files are missing or gated, the files are not parquet, or the Hub
            cannot be reached.
    """
    if Path(split.path).is_file():
        return [split.path]
    commit = commit or find_commit(split)
    with one_line(split):
        builder = load_dataset_builder(split.path or split.source, split.subset, revision=commit)
    files: dict[str, list[str]] = {str(name): list(found) for name, found in (builder.config.data_files or {}).items()}
    if split.split not in files:
        raise CorpusError(f"{split.name}: no split '{split.split}'; splits there: {listed(sorted(files))}")
    found = files[split.split]
    other = next((file for file in found if not file.endswith(".parquet")), None)
    if other is not None:
        raise CorpusError(
            f"{split.name}: {other} is not a parquet file, and only those can be streamed; download the corpus and use "
            "its own reader, or jsonl"
        )
    return found


@contextmanager
def one_line(split: HubSplit) -> Iterator[None]:
    """What goes wrong in other libraries becomes one `CorpusError`, without keys that addresses may carry."""
    try:
        yield
    except AudioLotteryError:
        raise
    # Half a dozen libraries are at work underneath, each with exceptions of its own.
    except Exception as error:
        raise CorpusError(f"{split.name}: {_explain(split, error)}") from error


def _explain(split: HubSplit, error: Exception) -> str:
    """What is wrong, and what to do."""
    if isinstance(error, GatedRepoError) or "is a gated dataset" in str(error):
        return f"{split.source} is gated; accept its terms on the Hub, then `hf auth login`"
    if isinstance(error, RepositoryNotFoundError):
        return f"the Hub has no dataset {split.source}; check the name; a private one needs `hf auth login`"
    if isinstance(error, RevisionNotFoundError):
        return f"{split.source} has no revision '{split.revision}'; name a branch, tag or commit that it has"
    reason = " ".join(_SECRETS.sub("", str(error)).split()).rstrip(".") or type(error).__name__
    reason = reason if len(reason) <= _LONGEST else f"{reason[:_LONGEST]}..."
    if "scripts are no longer supported" in reason:
        return f"{reason}; choose a repository with parquet files, or download the corpus and use its own reader"
    if split.path:
        return f"{reason}; correct path, subset or split, or fetch the files again"
    if isinstance(error, ValueError):
        return f"{reason}; correct subset or revision"
    return f"{reason}; check the network and HF_ENDPOINT, then run the command again"
