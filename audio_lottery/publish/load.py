"""A ticket as it was published, or a round's folder: model, mask and where it comes from."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn
from transformers import PreTrainedModel

from audio_lottery import pruning
from audio_lottery.config import ModelConfig
from audio_lottery.errors import MaskError, ModelError
from audio_lottery.lottery.run_folder import MASK_FILE
from audio_lottery.models.base import Backbone
from audio_lottery.models.load import load_trained
from audio_lottery.pruning import Mask
from audio_lottery.publish.names import TICKET_FILE
from audio_lottery.sparse.format import find_file
from audio_lottery.storage import read_json


@dataclass(frozen=True)
class LoadedTicket:
    """A ticket, ready to be evaluated, trained, transferred, accelerated.

    Attributes:
        backbone: module and processor, float32, on the CPU.
        mask: what is kept; the module's other prunable weights are zero.
        mask_path: its file, for ``--pruning.start``.
        provenance: ``ticket.json``, or ``metrics.json`` of a round's folder.
        revision: commit on the Hub; None of a folder.
    """

    backbone: Backbone
    mask: Mask
    mask_path: Path
    provenance: Mapping[str, Any]
    revision: str | None

    @property
    def model(self) -> PreTrainedModel:
        """The module."""
        return self.backbone.module

    def accelerated(self, *, precision: str = "float32") -> nn.Module:
        """A copy that computes the same, faster where weights are zero; see `audio_lottery.sparse.accelerate`.

        Args:
            precision: float32, bfloat16 or int8.

        Raises:
            ModelError: an unknown precision.
        """
        from audio_lottery.sparse import accelerate  # numba takes a second to load

        return accelerate(self.model.eval(), precision=precision)


def load_ticket(repo_or_path: str | Path, revision: str | None = None) -> LoadedTicket:
    """Load what ``audio-lottery publish`` uploaded, or a round's folder of a run.

    Args:
        repo_or_path: Hub id or folder.
        revision: branch, tag or commit on the Hub.

    Raises:
        ModelError: nothing there, no ticket, or the model cannot be loaded.
        MaskError: the mask is damaged, is not the recorded one, or does not fit the model; or a pruned weight is not
            zero.
    """
    source = str(repo_or_path)
    record = find_file(source, revision, TICKET_FILE)
    commit: str | None = None
    if record is not None and not Path(source).is_dir():
        # The Hub's cache keeps a commit's files in a folder of its name: the rest is taken from the same one.
        commit = revision = record.parent.name
    record = record or find_file(source, revision, "metrics.json")
    mask_path = find_file(source, revision, MASK_FILE)
    if record is None or mask_path is None:
        raise ModelError(
            f"'{source}' is not a ticket: it has no {TICKET_FILE if record is None else MASK_FILE}; give what "
            "`audio-lottery publish` uploaded, or a round's folder of a run"
        )
    provenance, mask = read_json(record), Mask.load(mask_path)
    if mask.sha256() != provenance.get("mask_sha256"):
        raise MaskError(f"{mask_path} is not the mask that {record.name} names; get the ticket again")
    backbone = load_trained(ModelConfig(init=source, revision=revision))
    pruning.check(mask, backbone.module)
    return LoadedTicket(backbone, mask, mask_path, provenance, commit)
