"""What is proved of a round before it is published: bytes, mask, density, and WER on a sample of the test set."""

from dataclasses import asdict, dataclass
from typing import Any

import datasets
import numpy as np
import torch

from audio_lottery import pruning
from audio_lottery.config import RunConfig
from audio_lottery.errors import RunError
from audio_lottery.evaluation.counts import count_errors
from audio_lottery.evaluation.evaluator import make_evaluator
from audio_lottery.evaluation.transcripts import TranscriptTable, read_transcripts
from audio_lottery.lottery.run_folder import MASK_FILE
from audio_lottery.models.base import Backbone
from audio_lottery.models.load import load_folder
from audio_lottery.processes import make_accelerator
from audio_lottery.pruning import Mask
from audio_lottery.publish.names import Chosen
from audio_lottery.storage import verify_sealed

SUITE = "clean"
"""The suite that is measured again; every run has it."""

# On another kind of device, or with another torch, sums are rounded otherwise: so many texts may differ then.
_MAY_DIFFER = 0.05


@dataclass(frozen=True)
class Remeasured:
    """A sample of the test set, recognised again.

    Attributes:
        utterances: how many.
        differing: of these, how many gave another text than the run recorded.
        wer: of the sample now.
        recorded: of the sample in the run's transcripts.
        device: kind of device that it was recognised on.
        torch: version.
    """

    utterances: int
    differing: int
    wer: float
    recorded: float
    device: str
    torch: str

    def to_dict(self) -> dict[str, Any]:
        """The record as JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class CheckedRound:
    """A round whose record is true.

    Attributes:
        backbone: its model, on the CPU.
        mask: its mask.
        remeasured: None where no sample was asked for.
    """

    backbone: Backbone
    mask: Mask
    remeasured: Remeasured | None


def check_round(chosen: Chosen, config: RunConfig, sample: int) -> CheckedRound:
    """Compare a round with its record: files with the seal, mask with metrics.json, texts with transcripts.

    Args:
        chosen: which round.
        config: of the run.
        sample: test utterances that are recognised again, spread evenly; 0 leaves that out.

    Raises:
        RunError: anything is not as it was recorded; says what.
        ModelError: the model was not kept, or cannot be loaded.
        MaskError: a pruned weight is not zero.
        CorpusError, AudioError: test speech is no longer where it was.
    """
    folder, metrics = chosen.folder, chosen.group.first.rounds[chosen.number]
    again = f"remove {folder} and the rounds after it and run the search again"
    verify_sealed(folder, remedy=again)
    backbone = load_folder(folder)
    mask = Mask.load(folder / MASK_FILE)
    _same(folder / MASK_FILE, "SHA-256", mask.sha256(), metrics["mask_sha256"], again)
    _same(folder / MASK_FILE, "number of kept weights", mask.kept, metrics["kept"], again)
    parameters = sum(parameter.numel() for parameter in backbone.module.parameters())
    _same(folder, "number of parameters", parameters, metrics["parameters"], again)
    pruning.check(mask, backbone.module)
    result, path = metrics["test"][SUITE], folder / "hypotheses" / f"{SUITE}.tsv"
    table = read_transcripts(path)
    whole = count_errors(table.ids, table.references, table.hypotheses, result["normalizer"])
    _same(path, "WER", whole.wer, result["wer"], again)
    remeasured = _measure(chosen, config, backbone, sample, table) if sample else None
    return CheckedRound(backbone, mask, remeasured)


def _same(where: object, what: str, found: object, recorded: object, remedy: str) -> None:
    if found != recorded:
        raise RunError(f"{where}: the {what} is {found}, and metrics.json says {recorded}; {remedy}")


def _measure(chosen: Chosen, config: RunConfig, backbone: Backbone, sample: int, table: TranscriptTable) -> Remeasured:
    folder, metrics = chosen.folder, chosen.group.first.rounds[chosen.number]
    manifest = datasets.load_from_disk(str(chosen.group.first.folder.data / "test"))
    rows = np.linspace(0, len(manifest) - 1, min(sample, len(manifest))).round().astype(int)
    manifest = manifest.select(rows)
    suite = next(one for one in config.evaluation.suites if one.name == SUITE)
    accelerator = make_accelerator("no", None)
    backbone.module.to(accelerator.device)
    transcripts = make_evaluator(config, accelerator, backbone).transcribe(backbone, manifest, suite)
    backbone.module.to("cpu")
    recorded = dict(zip(table.ids, table.hypotheses, strict=True))
    missing = [one for one in transcripts.ids if one not in recorded]
    if missing:
        raise RunError(
            f"{folder}: its transcripts lack the test utterance '{missing[0]}'; they are of another test set"
        )
    before = [recorded[one] for one in transcripts.ids]
    now = [" ".join(text.split()) for text in transcripts.hypotheses]  # as the file holds it
    differing = [one for one, old, new in zip(transcripts.ids, before, now, strict=True) if old != new]
    device, version = accelerator.device.type, torch.__version__
    same_machine = (device, version) == (metrics["device"], metrics["torch"])
    if len(differing) > (0 if same_machine else _MAY_DIFFER * len(now)):
        raise RunError(
            f"{folder}: {len(differing)} of {len(now)} test utterances, '{differing[0]}' the first, give another text "
            f"than was recorded (on {metrics['device']} with torch {metrics['torch']}; now {device} with {version}): "
            "model, audio or software has changed, so the recorded WER is not this model's; evaluate it again, or "
            "leave the check out with --sample 0, which the card will say"
        )
    normalizer = config.wer_normalizer
    wer, old = (count_errors(transcripts.ids, transcripts.references, texts, normalizer).wer for texts in (now, before))
    return Remeasured(len(now), len(differing), wer, old, device, version)
