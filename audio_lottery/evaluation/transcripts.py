"""Transcripts, in memory and on disk: ``id<TAB>text`` files, and the ``hypotheses/<suite>.tsv`` of a run folder."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from audio_lottery.errors import TextError
from audio_lottery.models.base import Hypothesis
from audio_lottery.storage import write_bytes

_COLUMNS = ("id", "reference", "hypothesis")


@dataclass(frozen=True, slots=True)
class Transcripts:
    """What was said and what was recognised, before normalisation.

    Attributes:
        ids: utterance ids.
        references: transcripts in the corpus's own spelling.
        nbest: hypotheses of each utterance, best first.
        speakers: speaker or talk of each utterance.
        corpora: names of the corpora they come from, sorted.
        seconds: audio in all.
    """

    ids: list[str]
    references: list[str]
    nbest: list[list[Hypothesis]]
    speakers: list[str]
    corpora: list[str]
    seconds: float

    @property
    def hypotheses(self) -> list[str]:
        """The best hypothesis of every utterance."""
        return best_texts(self.nbest)

    def write(self, path: Path) -> None:
        """Write ``id, reference, hypothesis, speaker`` lines, tabs between, below a header.

        Raises:
            StorageError: the file could not be written.
        """
        rows = zip(self.ids, self.references, self.hypotheses, self.speakers, strict=True)
        lines = ["id\treference\thypothesis\tspeaker"]
        lines += ["\t".join(" ".join(field.split()) for field in row) for row in rows]
        write_bytes(path, ("\n".join(lines) + "\n").encode())


def join(parts: Sequence[Transcripts]) -> Transcripts:
    """One set of transcripts from those of several manifests."""
    return Transcripts(
        ids=[utterance_id for part in parts for utterance_id in part.ids],
        references=[text for part in parts for text in part.references],
        nbest=[hypotheses for part in parts for hypotheses in part.nbest],
        speakers=[speaker for part in parts for speaker in part.speakers],
        corpora=sorted({corpus for part in parts for corpus in part.corpora}),
        seconds=sum(part.seconds for part in parts),
    )


def best_texts(hypotheses: list[list[Hypothesis]]) -> list[str]:
    """The text of every first hypothesis; empty where the decoder found none."""
    return [nbest[0].text if nbest else "" for nbest in hypotheses]


@dataclass(frozen=True, slots=True)
class TranscriptTable:
    """A ``hypotheses/<suite>.tsv``: texts before normalisation; ``speakers`` is None where the file has none."""

    ids: list[str]
    references: list[str]
    hypotheses: list[str]
    speakers: list[str] | None


def read_texts(path: Path) -> dict[str, str]:
    """Read ``id<TAB>text`` lines (UTF-8) into id → text. A text may be empty; its tab may not be missing.

    Raises:
        TextError: the file cannot be read or is empty, a line does not have two columns (file and line are named),
            an id is empty or repeated.
    """
    texts: dict[str, str] = {}
    ids = []
    for number, fields in _rows(path):
        if len(fields) != 2:
            found = "no tab" if len(fields) == 1 else f"{len(fields)} columns"
            raise TextError(f"{path}:{number}: {found} where id<TAB>text is expected; write one utterance a line")
        if not fields[0].strip():
            raise TextError(f"{path}:{number}: the utterance id before the tab is empty")
        ids.append(fields[0].strip())
        texts[ids[-1]] = fields[1]
    if not texts:
        raise TextError(f"{path} holds no utterance; expected lines of id<TAB>text")
    _check_unique(path, ids)
    return texts


def read_transcripts(path: Path) -> TranscriptTable:
    """Read a table with the columns ``id``, ``reference``, ``hypothesis`` and, where there is one, ``speaker``.

    Columns are found by the names in the first line; others are not read.

    Raises:
        TextError: the file cannot be read, lacks a column, has a line with another number of columns, or repeats an
            id.
    """
    rows = _rows(path)
    if not rows:
        raise TextError(f"{path} is empty; expected a header and one line per utterance")
    header = rows[0][1]
    missing = [name for name in _COLUMNS if name not in header]
    if missing:
        raise TextError(f"{path}:{rows[0][0]}: no column {', '.join(missing)}; the header has {', '.join(header)}")
    for number, fields in rows[1:]:
        if len(fields) != len(header):
            raise TextError(f"{path}:{number}: {len(fields)} columns where the header has {len(header)}")

    def column(name: str) -> list[str]:
        index = header.index(name)
        return [fields[index] for _, fields in rows[1:]]

    ids = column("id")
    _check_unique(path, ids)
    return TranscriptTable(
        ids, column("reference"), column("hypothesis"), column("speaker") if "speaker" in header else None
    )


def _rows(path: Path) -> list[tuple[int, list[str]]]:
    """Line number and fields of every line that is not blank."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise TextError(f"{path} cannot be read ({error.strerror or error}); check the path") from error
    except UnicodeDecodeError as error:
        raise TextError(f"{path} is not UTF-8 (byte {error.start}); convert it, for example with iconv") from error
    # Not splitlines(): it also breaks at characters that may stand in a transcript, such as U+2028.
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    return [(number, line.split("\t")) for number, line in enumerate(lines, start=1) if line.strip(" ")]


def _check_unique(path: Path, ids: list[str]) -> None:
    repeated = [utterance_id for utterance_id, count in Counter(ids).items() if count > 1]
    if repeated:
        shown = ", ".join(repeated[:5]) + (", …" if len(repeated) > 5 else "")
        noun = "id is" if len(repeated) == 1 else "ids are"
        raise TextError(
            f"{path}: {len(repeated)} utterance {noun} there more than once ({shown}); keep one line of each"
        )
