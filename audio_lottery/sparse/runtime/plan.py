"""What `accelerate` did to every module."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from audio_lottery.sparse.runtime.packed import Packing

_READ = "something computed with its weights, which are dense since: it runs as it is"


@dataclass(frozen=True)
class Replacement:
    """What became of one module.

    Attributes:
        name: the module's name in the model.
        kind: "linear", "convolution", "lstm", "encoder" or "decoder".
        kernel: "csr", "block16x1", … or "dense" where the module was left as it is.
        density: kept / all of its weights.
        macs_per_frame: multiply-adds of the dense module for one of its output frames (0 where it has several rates).
        note: why it was left, or what was measured.
    """

    name: str
    kind: str
    kernel: str
    density: float
    macs_per_frame: int
    note: str


class Plan(Sequence[Replacement]):
    """One `Replacement` for every module, as things are: a layer whose weights were read since is dense.

    Args:
        entries: in the model's order, each with the weights of what took the module's place, if it can become dense.
    """

    def __init__(self, entries: Sequence[tuple[Replacement, Packing | None]]) -> None:
        self._entries = list(entries)

    def __iter__(self) -> Iterator[Replacement]:
        for entry, packing in self._entries:
            dense = packing is not None and packing.packed is None
            yield replace(entry, kernel="dense", note=_READ) if dense else entry

    def __getitem__(self, index: Any) -> Any:
        return list(self)[index]

    def __len__(self) -> int:
        return len(self._entries)

    def __repr__(self) -> str:
        return f"Plan({list(self)})"
