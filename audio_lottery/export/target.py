"""The runtimes that a recogniser is exported to: how the file of each is written, and which numbers are in it.

A new one is a record in `TARGETS`, and a class in `recognise.py` that runs its file (docs/extending.md).
"""

import importlib.util
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from audio_lottery.errors import ConfigError
from audio_lottery.sparse.benchmark.contestants import quantise, quiet

EXTRA = "pip install 'audio-lottery[export]'"

# What both runtimes read, and what has every operator that is needed.
_OPSET = 17
_OUTPUTS = ("logits", "frames")

Names = Sequence[str]
Calibration = Sequence[Mapping[str, np.ndarray]]
Write = Callable[[nn.Module, Names, tuple[Tensor, ...], Path, Calibration], None]
"""(graph, names of its inputs, inputs to trace it with, file, inputs to calibrate int8 with; none for float32)."""


@dataclass(frozen=True)
class Target:
    """A runtime.

    Attributes:
        file: what the graph is called in the folder; weights may lie in files beside it.
        packages: what must be installed, beside what ``int8`` takes.
        routes: ways to write the file, in the order in which they are tried: the first whose outputs are right counts.
        constants: the numbers in a file, for counting zeros.
        int8: packages that quantise; None: float32 only.
        prepares: whether the runtime prepares itself for every length that is new to it, at length.
    """

    file: str
    packages: tuple[str, ...]
    routes: Mapping[str, Write]
    constants: Callable[[Path], Iterator[np.ndarray]]
    int8: tuple[str, ...] | None = None
    prepares: bool = False

    def check(self, name: str, precision: str) -> None:
        """Raises:
        ConfigError: a precision that it has not, or packages that are not installed.
        """
        if precision != "float32" and self.int8 is None:
            able = ", ".join(other for other, target in TARGETS.items() if target.int8 is not None)
            raise ConfigError(f"--to {name} writes float32 only; for {precision} take --to {able}")
        needed = self.packages + ((self.int8 or ()) if precision == "int8" else ())
        missing = [package for package in needed if importlib.util.find_spec(package) is None]
        if missing:
            raise ConfigError(f"--to {name} needs {', '.join(missing)}, not installed here: {EXTRA}")


def write_onnx(
    graph: nn.Module, names: Names, inputs: tuple[Tensor, ...], file: Path, calibration: Calibration
) -> None:
    """An ONNX file for any number and length of utterances.

    By tracing and not by torch.export, which has no recurrent layers: it unrolls them for one length.
    """
    axes = {name: {0: "batch", 1: "time"} for name in names} | {"logits": {0: "batch", 1: "frames"}}
    with quiet(), _no_graphs(), torch.no_grad():
        torch.onnx.export(
            graph,
            inputs,
            file,
            input_names=list(names),
            output_names=list(_OUTPUTS),
            dynamic_axes=axes | {"frames": {0: "batch"}},
            opset_version=_OPSET,
            dynamo=False,
        )


@contextmanager
def _no_graphs() -> Iterator[None]:
    """Torch prints the whole graph, from C++ and whatever it is told, where an operator has no ONNX."""
    torch._C._jit_set_onnx_log_output_stream("stderr")  # which has no buffer that would be written later
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def write_openvino(
    graph: nn.Module, names: Names, inputs: tuple[Tensor, ...], file: Path, calibration: Calibration
) -> None:
    """OpenVINO's own reading of a torch model, which keeps attention in one piece."""
    openvino: Any = import_module("openvino")
    shapes = [[-1, -1, *tensor.shape[2:]] for tensor in inputs]
    with quiet(), torch.no_grad():
        model = openvino.convert_model(graph, example_input=inputs, input=shapes)
    _save_openvino(model, names, file, calibration)


def write_openvino_from_onnx(
    graph: nn.Module, names: Names, inputs: tuple[Tensor, ...], file: Path, calibration: Calibration
) -> None:
    """By way of ONNX, which has recurrent layers that OpenVINO understands."""
    openvino: Any = import_module("openvino")
    between = file.with_name("between.onnx")
    write_onnx(graph, names, inputs, between, ())
    with quiet():
        model = openvino.convert_model(between)
    _save_openvino(model, names, file, calibration)
    between.unlink()


def _save_openvino(model: Any, names: Names, file: Path, calibration: Calibration) -> None:
    openvino: Any = import_module("openvino")
    for port, name in zip((*model.inputs, *model.outputs), (*names, *_OUTPUTS), strict=True):
        port.get_tensor().set_names({name})
    if calibration:
        model = quantise(model, calibration)
    # Its default is half precision, which would be another model than the one that was measured.
    openvino.save_model(model, file, compress_to_fp16=False)


def onnx_constants(file: Path) -> Iterator[np.ndarray]:
    """Initialisers, and tensors that nodes hold."""
    onnx: Any = import_module("onnx")
    graph = onnx.load(file).graph
    for tensor in graph.initializer:
        yield onnx.numpy_helper.to_array(tensor)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield onnx.numpy_helper.to_array(attribute.t)


def openvino_constants(file: Path) -> Iterator[np.ndarray]:
    """The constants of a graph."""
    openvino: Any = import_module("openvino")
    for operation in openvino.Core().read_model(file).get_ops():
        if operation.get_type_name() == "Constant":
            yield operation.data


TARGETS: dict[str, Target] = {
    "onnx": Target("model.onnx", ("onnx", "onnxruntime"), {"torch": write_onnx}, onnx_constants),
    "openvino": Target(
        "model.xml",
        ("openvino", "onnx"),
        {"torch": write_openvino, "onnx": write_openvino_from_onnx},
        openvino_constants,
        int8=("nncf",),
        prepares=True,
    ),
}
"""What ``--to`` takes → how it is done."""
