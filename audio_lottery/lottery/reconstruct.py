"""Weights that a round starts from where they were moved to make up for what its mask prunes."""

import logging
from pathlib import Path
from statistics import fmean

import torch
from safetensors.torch import load_file, save_file

from audio_lottery import pruning
from audio_lottery.lottery.run import Run
from audio_lottery.models.base import Backbone
from audio_lottery.models.load import load_folder
from audio_lottery.pruning import Mask

logger = logging.getLogger(__name__)


def reconstructs(run: Run, number: int) -> bool:
    """Whether round ``number`` starts from such weights."""
    return number > 0 and run.method.rewind.reconstructs


def write_reconstructed(run: Run, number: int, mask: Mask) -> None:
    """Compute and write them, and say how close the layers' outputs stay. Main process only.

    Raises:
        MaskError: as `audio_lottery.pruning.reconstruct`.
    """
    backbone = load_folder(run.method.start_folder(number))
    found = run.score_inputs(backbone, list(mask), "grams")
    report = pruning.reconstruct(backbone.module, mask, found).values()
    if report:
        logger.info(
            "round %d: error of a layer's outputs on calibration speech: %.3f on average, %.3f without reconstruction",
            number,
            fmean(one.rebuilt for one in report),
            fmean(one.masked for one in report),
        )
    save_file({name: backbone.module.get_parameter(name).detach().clone() for name in mask}, _path(run, number))


@torch.no_grad()
def take_reconstructed(run: Run, number: int, backbone: Backbone) -> None:
    """Set the weights of ``backbone``, from the file that all processes read."""
    for name, weight in load_file(_path(run, number)).items():
        backbone.module.get_parameter(name).copy_(weight)


def _path(run: Run, number: int) -> Path:
    return run.folder.work(run.folder.round(number).name) / "reconstructed.safetensors"
