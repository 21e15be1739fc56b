"""Where everything of a run lies.

```
run/config.yaml                 the resolved settings; the folder belongs to them
run/data/                       manifests of every split, as they were read when the run started
run/theta/                      the rewind point: model, processor, metrics.json
run/round_03/                   mask.safetensors, model.safetensors, config.json, processor, metrics.json,
                                hypotheses/SUITE.tsv, done; movement.safetensors where the score is movement;
                                the model may have been removed (search.keep): then the seal, done, says so
run/work/round_03/              checkpoints of the stage in progress; removed when the stage is done
run/.lock                       held by the search that works here
run/tensorboard/                one log per stage; other trackers that keep files have folders of their names
run/summary.csv, curve.png/svg, report.html  written after every round
```
A folder with the file ``done`` is whole: it was written under another name and renamed (`audio_lottery.storage`).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

RoundRow = dict[str, Any]
"""One line of the summary: the flat view of a round's metrics.json."""

MOVEMENT_FILE = "movement.safetensors"
"""Movement scores of a round's training, in its folder."""

MASK_FILE = "mask.safetensors"
"""Mask of a round, one bit a weight, in its folder."""

MODEL_FILE = "model.safetensors"
"""Weights of a stage, in its folder; `audio_lottery.lottery.keep` says which stages keep theirs."""


@dataclass(frozen=True)
class RunFolder:
    """Paths of a run.

    Attributes:
        path: the run's folder.
    """

    path: Path

    @property
    def data(self) -> Path:
        """Manifests."""
        return self.path / "data"

    @property
    def theta(self) -> Path:
        """The rewind point."""
        return self.path / "theta"

    def round(self, number: int) -> Path:
        """Result of one round."""
        return self.path / f"round_{number:02d}"

    @property
    def lock(self) -> Path:
        """Held by the search that works in the folder."""
        return self.path / ".lock"

    def work(self, stage: str) -> Path:
        """Scratch space of a stage in progress."""
        return self.path / "work" / stage
