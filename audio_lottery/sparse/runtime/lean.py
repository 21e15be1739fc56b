"""A sparse file on the kernels without the dense model in between: layers are read, packed and let go of one by one."""

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import accelerate as huggingface
import torch
from torch import nn
from transformers import AutoConfig, PreTrainedModel

from audio_lottery.errors import ModelError, reading
from audio_lottery.sparse.format.folder import FILE, find_file, model_class_of
from audio_lottery.sparse.format.reader import SparseFile
from audio_lottery.sparse.runtime.accelerate import targets_of, usable
from audio_lottery.sparse.runtime.model import as_accelerated
from audio_lottery.sparse.runtime.modules import Packable, lending, weights_of
from audio_lottery.sparse.runtime.packed import Packed, PackedWeight, Packing, stand_in
from audio_lottery.sparse.runtime.plan import Plan, Replacement


def load_accelerated(source: Path | str, *, precision: str = "float32", revision: str | None = None) -> Any:
    """What `accelerate.accelerate` makes of the model in a sparse file, in the memory of the packed one.

    Every layer that can be is replaced: there is no dense one to time it against.

    Args:
        source: folder or Hub id with ``model.sparse.safetensors``, see `audio_lottery.sparse.format`.
        precision: see `accelerate.accelerate`.
        revision: branch, tag or commit on the Hub.

    Raises:
        ModelError: nothing there; the file is damaged or of a newer version; its tensors and those of the model's class
            differ in name or shape, or are not float32; an unknown precision.
    """
    precision = usable(precision)
    path = find_file(source, revision)
    if path is None:
        raise ModelError(f"'{source}' has no {FILE}; give a folder or Hub id that was saved by audio_lottery.sparse")
    file = SparseFile(path)
    with reading(f"the config.json of '{source}'"):
        config = AutoConfig.from_pretrained(source, revision=revision, trust_remote_code=False)
    kind = model_class_of(config, source)
    with huggingface.init_empty_weights(include_buffers=False):
        model = kind(config).eval().requires_grad_(False)
    _check(model, file)
    for name, buffer in model.named_buffers():
        if name in file.names():
            buffer.copy_(file.read([name])[name])
    plan: list[tuple[Replacement, Packing | None]] = []
    made: dict[int, Any] = {}
    with torch.no_grad(), lending(_Reader(model, file).lend):
        for name, module, build, why in list(targets_of(model)):
            if build is None:
                plan.append((Replacement(name, type(module).__name__, "dense", 1.0, 0, why), None))
                continue
            fast = made.get(id(module)) or _build(module, build, precision)
            made[id(module)] = fast
            model = _put(model, name, fast)
            note = "packed as it was read"
            entry = Replacement(name, fast.kind, fast.kernel, fast.kept / fast.weights, fast.macs_per_frame, note)
            plan.append((entry, fast.packing if isinstance(fast, Packed) else None))
        _fill(model, file)
    _give_back()
    return as_accelerated(model, Plan(plan))


def _build(module: nn.Module, build: Any, precision: str) -> Any:
    if build.borrows:
        return build(module, precision)
    with weights_of(module):
        fast = build(module, precision)
        return stand_in(module, fast) if isinstance(fast, Packable) else fast


def _put(model: nn.Module, name: str, fast: nn.Module) -> Any:
    if not name:
        return fast
    parent, _, key = name.rpartition(".")
    setattr(model.get_submodule(parent), key, fast)
    return model


def _fill(model: nn.Module, file: SparseFile) -> None:
    """What no kernel has taken."""
    for name, parameter in list(model.named_parameters(remove_duplicate=False)):
        if not isinstance(parameter, PackedWeight) and parameter.is_meta:
            parent, _, key = name.rpartition(".")
            owner = model.get_submodule(parent)
            owner._parameters[key] = nn.Parameter(file.read([name])[name], requires_grad=False)


def _check(model: PreTrainedModel, file: SparseFile) -> None:
    """Names, shapes and types, before anything is read."""
    state, names = model.state_dict(), file.names()
    entries = {name: file.entries[file.tied.get(name, name)] for name in names}
    problems = {
        "missing:": sorted(state.keys() - names),
        "not in the model:": sorted(names - state.keys()),
        "of another shape:": sorted(
            name for name in state if name in names and state[name].shape != entries[name].shape
        ),
        "not float32:": sorted(
            name for name in names & state.keys() if state[name].is_meta and entries[name].dtype != "float32"
        ),
    }
    found = [
        f"{what} {', '.join(wrong[:5])}{f' and {len(wrong) - 5} more' if len(wrong) > 5 else ''}"
        for what, wrong in problems.items()
        if wrong
    ]
    if found:
        raise ModelError(f"{file.path} does not fit {type(model).__name__} of its config.json: {'; '.join(found)}")


class _Reader:
    """Gives modules the numbers of their parameters for a while."""

    def __init__(self, model: nn.Module, file: SparseFile) -> None:
        self._names = {id(module): name for name, module in model.named_modules()}
        self._file = file

    @contextmanager
    def lend(self, module: nn.Module) -> Iterator[None]:
        """Within the block the parameters of ``module`` are those of the file."""
        lent = [
            (owner, key, ".".join(part for part in (self._names[id(module)], path, key) if part))
            for path, owner in module.named_modules()
            for key, parameter in owner._parameters.items()
            if parameter is not None and parameter.is_meta
        ]
        before = [owner._parameters[key] for owner, key, _ in lent]
        numbers = self._file.read([name for _, _, name in lent])
        for owner, key, name in lent:
            owner._parameters[key] = nn.Parameter(numbers.pop(name), requires_grad=False)
        try:
            yield
        finally:
            for (owner, key, _), parameter in zip(lent, before, strict=True):
                owner._parameters[key] = parameter
            _give_back()


def _give_back() -> None:
    """Let the system have what was freed: glibc keeps blocks of this size for itself once it has seen a few of them."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)
