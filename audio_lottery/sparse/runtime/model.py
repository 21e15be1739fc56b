"""What a model is after `accelerate`, besides what it was."""

import functools
import time
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from transformers import GenerationMixin

from audio_lottery.errors import ModelError
from audio_lottery.sparse.runtime.modules import NO_SAVING, Accelerated
from audio_lottery.sparse.runtime.plan import Plan
from audio_lottery.sparse.runtime.threads import Tally, recording
from audio_lottery.sparse.runtime.writer import looked_up_once


class AcceleratedModel:
    """Goes before a model's own class, so that the model is used as before: `isinstance`, attributes, calls.

    Attributes:
        plan: a `Replacement` for each of the model's modules.
    """

    plan: Plan

    @property
    def device(self) -> torch.device:
        """Where it computes; known from its parameters elsewhere, of which no layer may be left here."""
        return next((tensor.device for tensor in self._left()), torch.device("cpu"))

    @property
    def dtype(self) -> torch.dtype:
        """Of what goes into its layers and comes out; float32 on the CPU at any precision."""
        return next((tensor.dtype for tensor in self._left() if tensor.is_floating_point()), torch.float32)

    def _left(self) -> Iterator[Tensor]:
        module: Any = self
        yield from module.parameters()

    def __call__(self, *inputs: Any, **options: Any) -> Any:
        """The model's outputs.

        Raises:
            ModelError: inner states are asked for, which a runner does not keep.
        """
        if not isinstance(self, Accelerated):  # a layer by itself has none
            self._refuse_inner_states(options)
        return super().__call__(*inputs, **options)  # type: ignore[misc]

    def profile(self, *inputs: Any, **options: Any) -> list[tuple[str, float]]:
        """Seconds by part of one call, longest first; last what is in none (norms, copies, modules left alone)."""
        return [(name, tally.seconds) for name, tally in self.budget(*inputs, **options)]

    def budget(self, *inputs: Any, **options: Any) -> list[tuple[str, Tally]]:
        """`profile` with what each part multiplied and read: of "everything else", only the seconds are known."""
        with torch.no_grad(), recording() as record:
            begin = time.perf_counter()
            self(*inputs, **options)
            total = time.perf_counter() - begin
        rest = total - sum(tally.seconds for tally in record.tallies.values())
        longest = sorted(record.tallies.items(), key=lambda item: -item[1].seconds)
        return [*longest, ("everything else", Tally(rest))]

    def save_pretrained(self, *arguments: object, **options: object) -> None:
        """Refuse.

        Raises:
            ModelError: always.
        """
        raise ModelError(NO_SAVING)

    def __reduce_ex__(self, protocol: Any) -> Any:
        # its class is made here, and so is not found by its name
        own = next(kind for kind in type(self).__mro__ if not issubclass(kind, AcceleratedModel))
        return _empty, (own,), self.__dict__

    def _refuse_inner_states(self, options: dict[str, Any]) -> None:
        config = getattr(self, "config", None)
        for name in ("output_attentions", "output_hidden_states"):
            wanted = options.get(name)
            if wanted or (wanted is None and getattr(config, name, False)):
                raise ModelError(f"{name}: an accelerated model keeps no inner states; ask the model it was made from")


class AcceleratedWriter(AcceleratedModel):
    """An `AcceleratedModel` with transformers' `generate`."""

    def _get_logits_processor(self, *inputs: Any, **options: Any) -> Any:
        return looked_up_once(super()._get_logits_processor(*inputs, **options))  # type: ignore[misc]


def as_accelerated(model: nn.Module, plan: Plan) -> Any:
    """``model`` with its class changed to one that has `AcceleratedModel` before it, and its plan."""
    if not isinstance(model, AcceleratedModel):
        kind: Any = type(model)
        model.__class__ = _with_accelerated(kind)
    model.plan = plan  # type: ignore[assignment]
    return model


def _empty(kind: Any) -> Any:
    made = _with_accelerated(kind)
    return made.__new__(made)


@functools.cache
def _with_accelerated(kind: Any) -> Any:
    first = AcceleratedWriter if issubclass(kind, GenerationMixin) else AcceleratedModel
    return type(kind.__name__, (first, kind), {"__module__": kind.__module__, "__doc__": kind.__doc__})
