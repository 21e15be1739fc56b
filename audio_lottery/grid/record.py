"""Records: a small text file stands for the run folder of a finished search where the folder is not.

A record holds what tables, pictures and the page of a comparison need of a search: settings, the metrics of every
round, and the word errors of every utterance, as operations of its two alignments, from which every count, interval and
test comes out as from the transcripts. It holds no word of what was said or recognised, no mask, no weight and no
audio. Files are the same, byte for byte, for the same run folder; mappings keep the order of ``metrics.json``, which is
that of suites and tensors in tables.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from audio_lottery.errors import RunError
from audio_lottery.evaluation.alignment import Alignments
from audio_lottery.evaluation.counts import ErrorCounts, TextlessCounts
from audio_lottery.grid.cells import Cell
from audio_lottery.lottery.select import DEV, SearchedRun, read_run, warn_changed
from audio_lottery.pruning import Mask
from audio_lottery.settings import MAY_CHANGE, differing, to_yaml, understand, without_places
from audio_lottery.storage import write_bytes

FORMAT = 1

Content = dict[str, Any]

# What may differ between the machines of one comparison. How many rounds a record holds is looked at by itself.
_IGNORED = MAY_CHANGE | {"data.root"}

_LETTERS = np.frombuffer(b"HSDI", dtype=np.uint8)
"""Of hit, substitution, deletion and insertion, by their codes."""

_AGAIN = "get it again, or remove it and the search runs again"


@dataclass(frozen=True, eq=False)
class RecordedRun(SearchedRun):
    """A search of which only a record is there, or only the record has all rounds.

    Attributes:
        path: of the record.
        counted: round → ``dev`` or suite → its errors.
        sparse: round → bytes of its sparse file.
    """

    path: Path
    counted: Mapping[int, Mapping[str, TextlessCounts]]
    sparse: Mapping[int, int | None]

    def errors(self, number: int, name: str) -> TextlessCounts:
        """Errors of a round on ``dev`` or on a test suite."""
        result, found = self.result(number, name), self.counted[number][name]
        warn_changed(found.wer, result, self.path)
        return found

    def texts(self, number: int, name: str) -> ErrorCounts:
        """Raises:
        RunError: always.
        """
        raise RunError("only a record of this search is there, and records hold neither transcripts nor audio")

    def mask(self, number: int) -> Mask | None:
        """None: a record holds the hash of a mask."""
        return None

    def removed(self, number: int) -> str:
        """Why there is no model."""
        return "only a record of this search is there"

    def sparse_bytes(self, number: int) -> int | None:
        """Bytes of the sparse file that there was."""
        return self.sparse[number]


@dataclass(frozen=True)
class Records:
    """The records of a comparison.

    Attributes:
        folder: where they are, ``ARM-seedN.json`` each; None: there are none, and none are written.
        cells: all of the comparison, by name.
        labels: of the arms.
    """

    folder: Path | None
    cells: Mapping[str, Cell]
    labels: Mapping[str, str | None]

    def finished(self, cell: Cell) -> SearchedRun | None:
        """A search that has finished, here or by its record; None where it has not, and of a cell that is none.

        Of a search that has finished here the record is written, unless there is one with as many rounds.

        Raises:
            RunError: run folder or record belong to other settings, are damaged, or do not agree.
            StorageError: the record could not be written.
        """
        done = cell.done()
        if cell.is_theta:
            return None
        recorded = self._read(cell)
        if not done:
            enough = recorded is not None and len(recorded.rounds) > cell.config.search.rounds
            return recorded if enough else None
        run = read_run(cell.folder.path)
        if self.folder is None:
            return run
        if recorded is not None:
            _check_agreement(run, recorded)
            if len(recorded.rounds) >= len(run.rounds):
                return run if len(recorded.rounds) == len(run.rounds) else recorded
        write_bytes(self.folder / f"{cell.name}.json", _serialise(self._content(cell, run)))
        return run

    def _content(self, cell: Cell, run: SearchedRun) -> Content:
        utterances: list[Content] = []
        rounds = [_round(run, number, utterances) for number in run.rounds]
        return {
            "arm": cell.arm,
            "bench": without_places(run.bench),
            "format": FORMAT,
            "label": self.labels[cell.arm] or cell.arm,
            "needs": {name: _portable(self.cells[name]) for name in self._needs(cell)},
            "rounds": rounds,
            "seed": cell.config.seed,
            "settings": _portable(cell),
            "theta": without_places(run.theta),
            "utterances": utterances,
        }

    def _needs(self, cell: Cell) -> list[str]:
        """Names of the cells that a cell starts from, and of those that they start from."""
        return sorted({name for need in cell.needs for name in (need, *self._needs(self.cells[need]))})

    def _read(self, cell: Cell) -> RecordedRun | None:
        path = None if self.folder is None else self.folder / f"{cell.name}.json"
        if path is None or not path.exists():
            return None
        content = _read_content(path)
        self._check_settings(cell, content, path)
        sets = content["utterances"]
        rounds = {entry["round"]: entry for entry in content["rounds"]}
        return RecordedRun(
            folder=cell.folder,
            config=to_yaml(cell.config),
            theta=content["theta"],
            rounds={number: entry["metrics"] for number, entry in rounds.items()},
            bench=content["bench"],
            path=path,
            counted={
                number: {name: _counts(found, sets[found["utterances"]]) for name, found in entry["errors"].items()}
                for number, entry in rounds.items()
            },
            sparse={number: entry["sparse_bytes"] for number, entry in rounds.items()},
        )

    def _check_settings(self, cell: Cell, content: Content, path: Path) -> None:
        pairs = {"": (content["settings"], cell)}
        # An arm that starts from other cells than it did has a setting that names another.
        pairs |= {f"{n}: ": (content["needs"][n], self.cells[n]) for n in self._needs(cell) if n in content["needs"]}
        different = []
        for prefix, (there, now) in pairs.items():
            here = _portable(now)
            if there != here:  # which may be because it is older than a setting
                found = differing(understand(there, str(path)), understand(here, now.name), _IGNORED)
                different += [f"{prefix}{difference}" for difference in found]
        if different:
            raise RunError(
                f"{path} is the record of a search with other settings: {', '.join(different)}; give the settings it "
                "was made with, choose another --records, or remove it and the search runs again"
            )


def _portable(cell: Cell) -> Content:
    """The settings, nested, without those that belong to a machine; places in the comparison's folder begin there."""
    out = f"{cell.folder.path.parent}/"

    def carry(value: Any, prefix: str) -> Any:
        if isinstance(value, dict):
            names = [name for name in sorted(value) if prefix + name not in _IGNORED]
            return {name: carry(value[name], f"{prefix}{name}.") for name in names}
        if isinstance(value, list):
            return [carry(entry, prefix) for entry in value]
        return value.removeprefix(out) if isinstance(value, str) else value

    settings: Content = without_places(carry(yaml.safe_load(to_yaml(cell.config)), ""))
    return settings


def _round(run: SearchedRun, number: int, utterances: list[Content]) -> Content:
    """One round; sets of utterances that are not in ``utterances`` yet are added to it."""
    errors = {}
    for name in (DEV, *run.rounds[number]["test"]):
        counts = run.errors(number, name)
        of = {
            "ids": list(counts.ids),
            "normalizer": counts.normalizer,
            "references_sha256": counts.said,
            "speakers": list(counts.speakers),
        }
        if of not in utterances:
            utterances.append(of)
        unit, nist = (_operations(counts.aligned[costs]) for costs in ("jiwer", "nist"))
        other = {str(i): theirs for i, (ours, theirs) in enumerate(zip(unit, nist, strict=True)) if ours != theirs}
        errors[name] = {"utterances": utterances.index(of), "jiwer": " ".join(unit), "nist": other}
    metrics = without_places(run.rounds[number])
    return {"round": number, "errors": errors, "metrics": metrics, "sparse_bytes": run.sparse_bytes(number)}


def _operations(alignments: Alignments) -> list[str]:
    """A letter for every operation, a word for every utterance."""
    return [_LETTERS[alignments[index]].tobytes().decode() for index in range(len(alignments))]


def _counts(found: Content, of: Content) -> TextlessCounts:
    unit = found["jiwer"].split(" ")
    nist = [found["nist"].get(str(index), word) for index, word in enumerate(unit)]
    aligned = {"jiwer": _alignments("jiwer", unit), "nist": _alignments("nist", nist)}
    return TextlessCounts(tuple(of["ids"]), tuple(of["speakers"]), of["normalizer"], of["references_sha256"], aligned)


def _alignments(costs: str, words: list[str]) -> Alignments:
    codes = np.zeros(256, dtype=np.uint8)
    codes[_LETTERS] = np.arange(len(_LETTERS))
    letters = np.frombuffer("".join(words).encode(), dtype=np.uint8)
    return Alignments(costs, codes[letters], np.cumsum([0, *map(len, words)], dtype=np.int64))


def _check_agreement(run: SearchedRun, recorded: RecordedRun) -> None:
    """Raises:
    RunError: run folder and record differ in a mask or an error of a round that both have.
    """
    for number in sorted(run.rounds.keys() & recorded.rounds.keys()):
        ours, theirs = run.rounds[number], recorded.rounds[number]
        what = []
        if ours["mask_sha256"] != theirs["mask_sha256"]:
            what.append("masks")
        for name in (DEV, *dict.fromkeys([*ours["test"], *theirs["test"]])):
            here, there = (name in {DEV, *metrics["test"]} for metrics in (ours, theirs))
            if not (here and there) or _told(run.errors(number, name)) != _told(recorded.errors(number, name)):
                what.append(f"errors on {name}")
        if what:
            raise RunError(
                f"{run.folder.path} and {recorded.path} are of one search and do not agree: in round {number} "
                f"{', '.join(what)} differ, as when it was run again on another machine; move one of them away"
            )


def _told(counts: TextlessCounts) -> tuple[Any, ...]:
    operations = [_operations(counts.aligned[costs]) for costs in sorted(counts.aligned)]
    return counts.ids, counts.speakers, counts.normalizer, counts.said, operations


def _serialise(content: Content) -> bytes:
    """A line for every key, and for every round; the last is the SHA-256 of what the file says."""
    lines = []
    for key in sorted(content):
        entries = [_json(entry) for entry in content[key]] if key in ("rounds", "utterances") else None
        value = _json(content[key]) if entries is None else "[\n" + ",\n".join(entries) + "\n]"
        lines.append(f"{_json(key)}:{value}")
    lines.append(f'"sha256":{_json(_digest(content))}')
    return ("{\n" + ",\n".join(lines) + "\n}\n").encode()


def _digest(content: Content) -> str:
    return hashlib.sha256(_json({key: content[key] for key in sorted(content)}).encode()).hexdigest()


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _read_content(path: Path) -> Content:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(f"{path} is no record of a search ({error}); {_AGAIN}") from error
    if not isinstance(content, dict) or not isinstance(content.get("format"), int):
        raise RunError(f"{path} is no record of a search; {_AGAIN}")
    if content["format"] != FORMAT:
        raise RunError(
            f"{path} is a record of format {content['format']}, and this version reads {FORMAT}; use the version of "
            "audio_lottery that wrote it, or remove it and the search runs again"
        )
    digest = content.pop("sha256", None)
    if digest != _digest(content):
        raise RunError(f"{path} does not hold what was written; {_AGAIN}")
    return content
