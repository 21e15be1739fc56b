"""The dense runtimes that a user could pick instead, each as a function from the input tensor to logits.

Each builder gets the model as `Logits`, the input of the length that will be timed, a number of threads and an empty
folder for files. Exporters get the input's shape as fixed, which is the kindest to a runtime: it plans its memory and
chooses its kernels ahead.
"""

import copy
import importlib.util
import io
import logging
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from audio_lottery.sparse.benchmark.subject import Logits

Call = Callable[[Tensor], Tensor]
Build = Callable[[Logits, Tensor, int, Path], Call]

# Inputs that OpenVINO's quantisation sees.
_CALIBRATION = 4
EXTRA = "pip install 'audio-lottery[bench]'"


@dataclass(frozen=True)
class Runtime:
    """A dense runtime at one precision.

    Attributes:
        name: as ``--runtimes`` takes it; several precisions share one.
        precision: float32, bfloat16 or int8.
        packages: what must be installed.
        build: see the module's description.
        any_length: whether what is built takes inputs of other lengths too.
    """

    name: str
    precision: str
    packages: tuple[str, ...]
    build: Build
    any_length: bool = False

    def missing(self) -> list[str]:
        """Packages that are not installed."""
        return [package for package in self.packages if importlib.util.find_spec(package) is None]


def torch_float32(model: Logits, inputs: Tensor, threads: int, folder: Path) -> Call:
    """The model as it is, with its own attention implementation (transformers' default is sdpa)."""
    return model


def torch_bfloat16(model: Logits, inputs: Tensor, threads: int, folder: Path) -> Call:
    """The whole model in bfloat16."""
    half = copy.deepcopy(model).to(torch.bfloat16)
    return lambda tensor: half(tensor.to(torch.bfloat16))


def torch_int8(model: Logits, inputs: Tensor, threads: int, folder: Path) -> Call:
    """Linear layers in int8, activations quantised on the fly: torch's dynamic quantisation."""
    with quiet():
        return torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8)


def onnx_float32(model: Logits, inputs: Tensor, threads: int, folder: Path) -> Call:
    """ONNX Runtime on the exported graph, all graph optimisations on."""
    return _onnx_session(_export(model, inputs, folder), threads)


def onnx_int8(model: Logits, inputs: Tensor, threads: int, folder: Path) -> Call:
    """ONNX Runtime with its dynamic quantisation of matrix products and convolutions.

    The types are the fastest of those tried on wav2vec2-base: matrix products with signed weights per channel,
    convolutions with unsigned ones (signed ones take longer than float32).
    """
    quantization: Any = import_module("onnxruntime.quantization")
    source = _export(model, inputs, folder)
    products, target = folder / "int8-products.onnx", folder / "int8.onnx"
    types = quantization.QuantType
    common = {"use_external_data_format": True}
    with quiet():
        quantization.quantize_dynamic(
            source,
            products,
            op_types_to_quantize=["MatMul", "Gemm"],
            per_channel=True,
            weight_type=types.QInt8,
            **common,
        )
        quantization.quantize_dynamic(
            products, target, op_types_to_quantize=["Conv"], weight_type=types.QUInt8, **common
        )
    return _onnx_session(target, threads)


def openvino_float32(model: Logits, inputs: Tensor, threads: int, folder: Path) -> Call:
    """OpenVINO, converted from the torch model."""
    return _compiled(_converted(model, inputs), threads, "f32")


def openvino_bfloat16(model: Logits, inputs: Tensor, threads: int, folder: Path) -> Call:
    """OpenVINO in bfloat16.

    Raises:
        RuntimeError: OpenVINO chose another precision because the CPU has no bfloat16 instructions.
    """
    return _compiled(_converted(model, inputs), threads, "bf16")


def openvino_int8(model: Logits, inputs: Tensor, threads: int, folder: Path) -> Call:
    """OpenVINO in int8: NNCF's post-training quantisation with its settings for transformers, what stays in bfloat16.

    It is calibrated on the audio that it will be timed on, from several starting points. What is not quantised runs in
    bfloat16 where the CPU has it.
    """
    rolled = [inputs.roll(number * (inputs.shape[1] // _CALIBRATION), 1).numpy() for number in range(_CALIBRATION)]
    with redirect_stderr(io.StringIO()):  # it draws bars
        graph = quantise(_converted(model, inputs), rolled)
    return _compiled(graph, threads)


RUNTIMES = [
    Runtime("torch", "float32", (), torch_float32, any_length=True),
    Runtime("torch", "bfloat16", (), torch_bfloat16, any_length=True),
    Runtime("torch", "int8", (), torch_int8, any_length=True),
    Runtime("onnxruntime", "float32", ("onnxruntime", "onnx", "onnxscript"), onnx_float32),
    Runtime("onnxruntime", "int8", ("onnxruntime", "onnx", "onnxscript"), onnx_int8),
    Runtime("openvino", "float32", ("openvino",), openvino_float32),
    Runtime("openvino", "bfloat16", ("openvino",), openvino_bfloat16),
    Runtime("openvino", "int8", ("openvino", "nncf"), openvino_int8),
]
"""The dense contestants, in the order of the tables."""


def _export(model: Logits, inputs: Tensor, folder: Path) -> Path:
    """The model as ONNX in ``folder``, exported once for all contestants of one length."""
    path = folder / "float32.onnx"
    if not path.exists():
        with quiet(), torch.no_grad():
            torch.onnx.export(
                plain(model),
                (inputs,),
                path,
                input_names=["inputs"],
                output_names=["logits"],
                dynamo=True,
                verbose=False,
            )
    return path


Model = TypeVar("Model", bound=nn.Module)


def plain(model: Model) -> Model:
    """A copy whose weights are stored as they are used.

    Of the weight norm of a positional convolution the exporter makes nodes that compute the weight anew in every call,
    and ONNX Runtime's quantisation refuses such a convolution.
    """
    model = copy.deepcopy(model)
    for module in model.modules():
        if parametrize.is_parametrized(module):
            names: Any = module.parametrizations
            weights = {name: nn.Parameter(getattr(module, name).detach()) for name in names}
            # not torch's remove_parametrizations: it changes the class, which the copy shares with the original
            module.__class__ = parametrize.type_before_parametrizations(module)
            del module.parametrizations
            for name, weight in weights.items():
                module.register_parameter(name, weight)
    return model


def quantise(model: Any, calibration: Sequence[Any]) -> Any:
    """An OpenVINO model in int8: NNCF's post-training quantisation with its settings for transformers.

    Args:
        model: in float32; what is not quantised stays so.
        calibration: inputs of the model.
    """
    nncf: Any = import_module("nncf")
    with quiet(), redirect_stdout(sys.stderr):  # its progress
        return nncf.quantize(
            model,
            nncf.Dataset(list(calibration)),
            model_type=nncf.ModelType.TRANSFORMER,
            preset=nncf.QuantizationPreset.MIXED,
            subset_size=len(calibration),
        )


def _onnx_session(path: Path, threads: int) -> Call:
    onnxruntime: Any = import_module("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Its workers may spin within a call, which is its default and faster, and must sleep after it: they would take the
    # cores from the next contestant.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda tensor: torch.from_numpy(session.run(None, {"inputs": tensor.numpy()})[0])


def _converted(model: Logits, inputs: Tensor) -> Any:
    openvino: Any = import_module("openvino")
    with quiet(), torch.no_grad():
        return openvino.convert_model(model, example_input=inputs, input=list(inputs.shape))


def _compiled(graph: Any, threads: int, precision: str | None = None) -> Call:
    """An OpenVINO model ready to run; without a precision, OpenVINO's own choice."""
    openvino: Any = import_module("openvino")
    settings = {
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
        # Two virtual cores are often two threads of one core, of which OpenVINO would use one.
        "ENABLE_HYPER_THREADING": True,
    }
    if precision is not None:
        settings["INFERENCE_PRECISION_HINT"] = precision
    compiled = openvino.Core().compile_model(graph, "CPU", settings)
    chosen = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
    if precision not in (None, chosen):
        raise RuntimeError(f"OpenVINO chose {chosen} instead of {precision}: this CPU has no instructions for it")
    return lambda tensor: torch.from_numpy(compiled(tensor.numpy())[0])


@contextmanager
def quiet() -> Iterator[None]:
    """Without the exporters' warnings about tracing and deprecation, which no user of a benchmark can act on."""
    loggers = [
        logging.getLogger(name) for name in ("torch.onnx", "root", "onnxscript", "onnx_ir", "transformers", "nncf")
    ]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
