"""`export`: a folder with the model as another runtime's file, and all that a service needs beside it."""

import importlib.metadata
import logging
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor

import audio_lottery
from audio_lottery.data.audio import SAMPLE_RATE
from audio_lottery.errors import AudioLotteryError, ConfigError, ModelError, reason
from audio_lottery.export import recognise
from audio_lottery.export.smoke import TOLERANCE, Trial, graph_inputs, noise, smoke
from audio_lottery.export.target import TARGETS, Target
from audio_lottery.export.zeros import Zeros, check_zeros
from audio_lottery.models.base import Backbone
from audio_lottery.models.front_end import FrontEnd, front_end
from audio_lottery.models.graph import Graph
from audio_lottery.pruning import find_scope
from audio_lottery.sparse.benchmark.contestants import plain
from audio_lottery.storage import sealed_folder, write_bytes, write_json

logger = logging.getLogger(__name__)

DESCRIPTION = "recogniser.json"
PRECISIONS = ("float32", "int8")
SCHEMA = 1
_TABLES = "features.safetensors"
# Seconds of which lengths are made multiples for runtimes that prepare themselves for every length.
_STEP = 0.5


@dataclass(frozen=True)
class Exported:
    """What `export` wrote.

    Attributes:
        folder: where.
        bytes: of the model's files in it.
        zeros: in its matrices.
        trials: how it compares with torch.
        route: how the file was written.
    """

    folder: Path
    bytes: int
    zeros: Zeros
    trials: tuple[Trial, ...]
    route: str


def check_settings(to: str, precision: str, calibrated: bool) -> Target:
    """The target, where the settings are possible; quick, so that mistakes are told before a model is loaded.

    Raises:
        ConfigError: an unknown target or precision, packages that are not installed, int8 without speech, speech
            without int8.
    """
    if to not in TARGETS:
        raise ConfigError(f"--to {to} is unknown; there are {', '.join(TARGETS)}")
    if precision not in PRECISIONS:
        raise ConfigError(f"--precision {precision} is unknown; there are {', '.join(PRECISIONS)}")
    TARGETS[to].check(to, precision)
    if precision == "int8" and not calibrated:
        raise ConfigError(
            "--precision int8 is fitted to speech: name some with --calibration (training data, not test)"
        )
    if precision != "int8" and calibrated:
        raise ConfigError(f"--calibration is for --precision int8; {precision} needs none")
    return TARGETS[to]


def check_folder(folder: Path, force: bool) -> None:
    """Raises:
    ConfigError: something is there, and may not or cannot be replaced.
    """
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if not (folder / DESCRIPTION).is_file():
        raise ConfigError(f"{folder} exists and is no earlier export; choose another folder")
    if not force:
        raise ConfigError(f"{folder} holds an earlier export; choose another folder, or replace it with --force")


def export(
    backbone: Backbone,
    to: str,
    folder: Path | str,
    *,
    precision: str = "float32",
    calibration: Sequence[np.ndarray] = (),
    force: bool = False,
) -> Exported:
    """Write a recogniser for another runtime: any number of utterances of any length, zeros kept.

    The folder has the model, the processor's files, recogniser.json (inputs, features, outputs, how it compares with
    torch, versions), features.safetensors where features are multiplied with tables, and recognise.py, which needs no
    torch. It appears whole or not at all.

    Args:
        backbone: on the CPU in float32; is put into evaluation mode.
        to: key of `TARGETS`.
        folder: new or empty.
        precision: float32, or int8 where the target has it.
        calibration: two or more utterances of speech at 16 kHz, which int8 is fitted to, and compared on.
        force: replace an earlier export.

    Raises:
        ConfigError: see `check_settings` and `check_folder`; or speech that is too little to be fitted to.
        ModelError: the family has no graph, the exporter refuses it, zeros are gone, or outputs are not torch's.
        StorageError: the folder cannot be written.
    """
    target = check_settings(to, precision, bool(calibration))
    place = Path(folder).absolute()
    check_folder(place, force)
    backbone.module.eval()
    graph = plain(backbone.graph()).eval()
    speech = _speech(backbone, calibration)
    front = front_end(backbone.processor.feature_extractor)
    with sealed_folder(place) as temporary:
        backbone.processor.save_pretrained(temporary)
        if front.tables:
            write_bytes(temporary / _TABLES, save({name: table.contiguous() for name, table in front.tables.items()}))
        shutil.copyfile(recognise.__file__, temporary / Path(recognise.__file__).name)
        about = _describe(backbone, graph, front, to, target)
        route, trials = _write_right(backbone, graph, target, temporary, about)
        if precision == "int8":
            fitted = [_arrays(graph, graph_inputs(backbone, graph, [samples])) for samples in speech]
            _write(graph, target, route, temporary, graph_inputs(backbone, graph, noise()[-2:]), fitted)
            about |= {"precision": "int8", "inference_precision": None}
            trials = _try(backbone, temporary, about, _two_lengths(speech), "int8")
            if fault := _fault(trials):
                raise ModelError(f"--to {to} --precision int8: {fault}; use float32")
        file = temporary / target.file
        zeros = check_zeros(_matrices(graph, backbone), target.constants(file), rounded=precision == "int8")
        size = sum(one.stat().st_size for one in temporary.glob(f"{file.stem}.*"))
        about |= {
            "route": route,
            "zeros": asdict(zeros),
            "compared_with_torch": [asdict(trial) for trial in trials],
            "tolerance": TOLERANCE if precision == "float32" else None,
        }
        write_json(temporary / DESCRIPTION, about)
    return Exported(Path(folder), size, zeros, tuple(trials), route)


def _speech(backbone: Backbone, calibration: Sequence[np.ndarray]) -> list[np.ndarray]:
    long_enough = [samples for samples in calibration if len(samples) >= backbone.shortest]
    if calibration and len({len(samples) for samples in long_enough}) < 2:
        raise ConfigError(
            f"--calibration gives {len(long_enough)} utterances that are long enough, and two of different lengths are "
            "the least; a hundred are a good number"
        )
    return long_enough


def _write_right(
    backbone: Backbone, graph: Graph, target: Target, folder: Path, about: dict[str, Any]
) -> tuple[str, list[Trial]]:
    """The first route whose file computes what torch computes, in float32.

    Raises:
        ModelError: none does.
    """
    faults = []
    inputs = graph_inputs(backbone, graph, noise()[-2:])
    for route in target.routes:
        try:
            _write(graph, target, route, folder, inputs, [])
            trials = _try(backbone, folder, about, noise(), "float32")
            fault = _fault(trials)
        except (AudioLotteryError, MemoryError):
            raise
        except Exception as error:  # exporters and runtimes raise anything on what they do not know
            fault = reason(error)
        if not fault:
            return route, trials
        faults.append(f"by way of {route}: {fault}")
        logger.info("%s is not right %s; trying another way", target.file, faults[-1])
    raise ModelError(f"{type(backbone.module).__name__} cannot be exported to {about['target']}; {'; '.join(faults)}")


def _write(
    graph: Graph, target: Target, route: str, folder: Path, inputs: tuple[Tensor, ...], fitted: list[dict[str, Any]]
) -> None:
    file = folder / target.file
    for left in folder.glob(f"{file.stem}.*"):
        left.unlink()
    target.routes[route](graph, graph.names, inputs, file, fitted)


def _try(
    backbone: Backbone, folder: Path, about: dict[str, Any], audio: Sequence[np.ndarray], precision: str
) -> list[Trial]:
    write_json(folder / DESCRIPTION, about)
    return smoke(backbone, recognise.Recogniser(folder), audio, precision)


def _fault(trials: Sequence[Trial]) -> str:
    return next((trial.fault for trial in trials if trial.fault), "")


def _two_lengths(speech: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The shortest and the longest utterance."""
    return [min(speech, key=len), max(speech, key=len)]


def _arrays(graph: Graph, tensors: tuple[Tensor, ...]) -> dict[str, Any]:
    return {name: tensor.numpy() for name, tensor in zip(graph.names, tensors, strict=True)}


def _matrices(graph: Graph, backbone: Backbone) -> dict[str, Tensor]:
    """The weights of linear, convolution and recurrent layers that the outputs depend on; some models carry others."""
    parameters = dict(graph.named_parameters())
    names = find_scope(graph).names
    with torch.enable_grad():
        weights = [parameters[name].requires_grad_(True) for name in names]
        logits, _ = graph(*graph_inputs(backbone, graph, noise()[:1]))
        gradients = torch.autograd.grad(logits.sum(), weights, allow_unused=True)
    return {
        name: weight.detach()
        for name, weight, gradient in zip(names, weights, gradients, strict=True)
        if gradient is not None
    }


def _multiple(backbone: Backbone, graph: Graph) -> int:
    """What half a second adds to the length of an input."""
    one, more = (np.zeros(round(SAMPLE_RATE * seconds), np.float32) for seconds in (1.0, 1.0 + _STEP))
    first, second = (graph_inputs(backbone, graph, [samples])[0].shape[1] for samples in (one, more))
    return int(second - first)


def _describe(backbone: Backbone, graph: Graph, front: FrontEnd, to: str, target: Target) -> dict[str, Any]:
    """What recogniser.json says."""
    example = graph_inputs(backbone, graph, noise()[:1])
    inputs = [
        {
            "name": name,
            "type": str(tensor.dtype).removeprefix("torch."),
            "shape": ["batch", "time", *tensor.shape[2:]],
        }
        for name, tensor in zip(graph.names, example, strict=True)
    ]
    with torch.no_grad():
        outputs = graph(*example)[0].shape[-1]
    packages = ("torch", "transformers", *target.packages)
    return {
        "schema": SCHEMA,
        "target": to,
        "file": target.file,
        "precision": "float32",
        "inference_precision": "f32",
        "model": type(backbone.module).__name__,
        "sample_rate": SAMPLE_RATE,
        "shortest_samples": backbone.shortest,
        "features": {"kind": front.kind, "settings": front.settings, "steps": list(front.steps)},
        "inputs": inputs,
        "padding": "zeros behind the end, and zeros in the mask; "
        + ("changes no output" if backbone.pads_exactly else "changes outputs: give one utterance at a time"),
        "pad_to_multiple": _multiple(backbone, graph) if target.prepares and backbone.pads_exactly else 1,
        "outputs": [
            {"name": "logits", "type": "float32", "shape": ["batch", "frames", outputs]},
            {
                "name": "frames",
                "type": "int64",
                "shape": ["batch"],
                "meaning": "frames of each row that are no padding",
            },
        ],
        "pieces": backbone.pieces,
        "blank": backbone.blank,
        "search": "the best output of every frame, repeats merged, blanks left out; pieces joined; white space single",
        "frame_seconds": backbone.frame_seconds,
        "versions": {"audio_lottery": audio_lottery.__version__}
        | {package: importlib.metadata.version(package) for package in packages},
    }
