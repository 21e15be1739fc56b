"""Keep pruned weights at zero while everything else trains."""

from collections.abc import Sequence
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from audio_lottery.errors import MaskError
from audio_lottery.pruning.distributed import cut_like, local_part, parameters_of, sum_over_shards
from audio_lottery.pruning.mask import Mask
from audio_lottery.pruning.parameters import FSDP1, imported_types


@torch.no_grad()
def apply(mask: Mask, model: nn.Module) -> None:
    """Set the pruned weights of ``model`` to +0.0 and leave the others as they are, bit for bit.

    Sharded parameters (``DTensor``) are masked where they lie; no communication.

    Raises:
        MaskError: the mask does not fit the model.
    """
    mask.check_fits(model)
    parameters = parameters_of(model, mask)
    for name, tensor in mask.items():
        _zero_pruned(local_part(parameters[name]), _bits(cut_like(tensor, parameters[name])))


@torch.no_grad()
def check(mask: Mask, model: nn.Module) -> None:
    """Prove that every pruned weight of ``model`` is exactly zero.

    With sharded parameters every process must call it; the counts are of all shards, and all processes raise.

    Raises:
        MaskError: names the parameters that have weights outside the mask, with counts.
    """
    mask.check_fits(model)
    parameters = parameters_of(model, mask)
    counts = {
        # alive > kept: alive and not kept
        name: int(torch.count_nonzero((local_part(parameters[name]) != 0) > cut_like(tensor, parameters[name])))
        for name, tensor in mask.items()
    }
    revived = {name: count for name, count in sum_over_shards(counts, parameters).items() if count}
    if revived:
        listed = ", ".join(f"{name} ({count})" for name, count in revived.items())
        raise MaskError(f"weights outside the mask are not zero: {listed}; the model is denser than was asked")


@torch.no_grad()
def clear_state(mask: Mask, model: nn.Module, optimizer: Optimizer | Sequence[Optimizer]) -> None:
    """Zero what an optimiser remembers of pruned weights: moments, momentum, the running maximum of AMSGrad.

    For a mask that changes while training (GMP, PARP): momentum gathered before a weight was pruned says nothing about
    it later. Only state of the parameter's own shape is touched; step counters and factored moments (Adafactor) stay.
    A weight that comes back therefore starts with empty moments under the bias correction of an old step: its first
    AdamW update is lr·(1 − β₁)/√(1 − β₂), about 3.2 lr with the usual betas.

    Args:
        mask: the mask now in force.
        model: the model that the optimiser trains.
        optimizer: any torch optimiser, or accelerate's wrapper of one, or several of them.

    Raises:
        MaskError: the mask does not fit, or the state is quantised, where zero bits are not the value zero.
    """
    mask.check_fits(model)
    parameters = parameters_of(model, mask)
    for inner in unwrapped(optimizer):
        for name, tensor in mask.items():
            parameter = parameters[name]
            for key, value in inner.state.get(parameter, {}).items():
                if not isinstance(value, Tensor) or value.shape != parameter.shape:
                    continue
                if not (value.is_floating_point() or value.is_complex()):
                    raise MaskError(f"'{key}' of '{name}' is {value.dtype}: quantised state cannot be cleared")
                part = local_part(value)
                _zero_pruned(part, _bits(cut_like(tensor, parameter)).to(part.device))


class Enforcer:
    """Applies one mask to one model again and again: after each backward pass and after each optimiser step.

    AdamW's momentum and weight decay move weights whose gradient is zero, so masking gradients alone does not hold
    zeros; and gradients of pruned weights would count in the norm that is clipped, so masking weights alone changes how
    the survivors train. Tensors that the mask keeps whole cost nothing; a dense mask is free.

    Sharded parameters (FSDP2) are masked where they lie: make the enforcer after ``fully_shard``.

    Args:
        mask: the mask.
        model: the model; its parameters must keep their identity (an optimiser's in-place steps do).

    Raises:
        MaskError: the mask does not fit the model.
    """

    def __init__(self, mask: Mask, model: nn.Module) -> None:
        self._model = model
        self._hold(mask)

    @property
    def mask(self) -> Mask:
        """The mask in force."""
        return self._mask

    def update(self, mask: Mask) -> None:
        """Change to another mask: its pruned weights and their gradients are zero at once.

        Weights that only the former mask pruned are zero and train from now on. Optimiser state is not touched; see
        `clear_state`.

        Raises:
            MaskError: the mask does not fit the model; the former mask stays in force.
        """
        self._hold(mask)
        self.mask_weights()
        self.mask_gradients()

    @torch.no_grad()
    def mask_gradients(self) -> None:
        """Zero the gradients of pruned weights; call after backward, before clipping."""
        for name in self._held:
            self.mask_gradient(name)

    @torch.no_grad()
    def mask_gradient(self, name: str) -> None:
        """Zero the gradients of the pruned weights of one parameter; nothing where it has none or is kept whole."""
        if name in self._held and self._held[name][0].grad is not None:
            self._zero(name, self._held[name][0].grad)

    @torch.no_grad()
    def mask_weights(self) -> None:
        """Zero the pruned weights; call after each optimiser step."""
        for name, (parameter, _) in self._held.items():
            self._zero(name, parameter)

    def _hold(self, mask: Mask) -> None:
        flat = imported_types(FSDP1)
        if any(isinstance(module, flat) for module in self._model.modules()):
            raise MaskError(f"a mask cannot be held on {FSDP1[1]} (FSDP1) while it trains; use fully_shard (FSDP2)")
        mask.check_fits(self._model)
        parameters = parameters_of(self._model, mask)
        held: dict[str, tuple[nn.Parameter, Tensor]] = {}
        for name, tensor in mask.items():
            kept = cut_like(tensor, parameters[name])
            if not kept.all():
                held[name] = (parameters[name], _bits(kept))
        self._mask, self._held = mask, held

    def _zero(self, name: str, tensor: Tensor | None) -> None:
        if tensor is None:
            return
        parameter, bits = self._held[name]
        part = local_part(tensor)
        if bits.device != part.device:  # the model moved
            bits = bits.to(part.device)
            self._held[name] = (parameter, bits)
        _zero_pruned(part, bits)


class _Removable(Protocol):
    def remove(self) -> None: ...


class Handle:
    """A mask held on a model by `enforce`. ``remove()`` it, or use it as a context manager."""

    def __init__(self, enforcer: Enforcer, model: nn.Module, optimizers: Sequence[Optimizer]) -> None:
        self._enforcer = enforcer
        self._model = model
        self._optimizers = list(optimizers)
        self._hooks: list[_Removable] = []
        self._late: list[str] = []
        self._register()

    @property
    def mask(self) -> Mask:
        """The mask in force."""
        return self._enforcer.mask

    def update(self, mask: Mask) -> None:
        """Change to another mask between two steps; see `Enforcer.update`.

        Raises:
            MaskError: the mask does not fit the model or names parameters that the optimiser does not train; the
                former mask stays in force.
        """
        mask.check_fits(self._model)
        _require_trained(mask, parameters_of(self._model, mask), self._optimizers)
        self._enforcer.update(mask)
        self.remove()
        self._register()

    def remove(self) -> None:
        """Let go: from now on every weight trains. Weights stay as they are."""
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()
        self._late.clear()

    def __enter__(self) -> "Handle":
        return self

    def __exit__(self, *exception: object) -> None:
        self.remove()

    def _register(self) -> None:
        parameters = parameters_of(self._model, self.mask)
        for name in self.mask:
            if parameters[name].requires_grad:
                hook = partial(self._after_backward, name)
                self._hooks.append(parameters[name].register_post_accumulate_grad_hook(hook))
            else:  # torch takes no hook on a frozen parameter; it may be unfrozen later
                self._late.append(name)
        for optimizer in self._optimizers:
            self._hooks.append(optimizer.register_step_pre_hook(self._before_step))
            self._hooks.append(optimizer.register_step_post_hook(self._after_step))

    def _after_backward(self, name: str, _: Tensor) -> None:
        self._enforcer.mask_gradient(name)

    def _before_step(self, *_: Any) -> None:
        for name in self._late:
            self._enforcer.mask_gradient(name)

    def _after_step(self, *_: Any) -> None:
        self._enforcer.mask_weights()


def enforce(mask: Mask, model: nn.Module, optimizer: Optimizer | Sequence[Optimizer]) -> Handle:
    """Hold ``mask`` on ``model`` in any training loop: apply it now, and keep pruned weights at zero from now on.

    Weights are masked by the optimiser's hook after each step, gradients by a hook on each parameter, right after
    backward has accumulated into it. So clipping between backward and step sees the gradients of the survivors only,
    with and without gradient accumulation, loss scaling (a scale does not change zeros) and DDP (each process masks
    before the average). Under FSDP2 the hook runs on the shard, after the gradients were reduced. Call it after the
    model was wrapped or sharded and the optimiser was made; a wrapper (DDP, ``torch.compile``) may be passed as it is.
    Gradients that a loop writes into ``.grad`` itself are not seen: call `Enforcer.mask_gradients` there.

    Nothing is stored in the module: ``state_dict``, ``deepcopy`` and ``save_pretrained`` work as without a mask.

    Args:
        mask: the mask.
        model: the model that the mask names parameters of.
        optimizer: any torch optimiser, accelerate's wrapper of one, or a list where several share the parameters.

    Returns:
        A handle: ``remove()``, ``update(mask)``, or ``with enforce(...):``.

    Raises:
        MaskError: the mask does not fit, or a trainable parameter of the mask is in none of the optimisers.
    """
    optimizers = unwrapped(optimizer)
    mask.check_fits(model)
    _require_trained(mask, parameters_of(model, mask), optimizers)
    apply(mask, model)
    enforcer = Enforcer(mask, model)
    enforcer.mask_gradients()
    return Handle(enforcer, model, optimizers)


_INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def _bits(kept: Tensor) -> Tensor:
    """A mask as int8: all bits set where a weight is kept, none where it is pruned."""
    return kept.to(torch.int8).neg_()


def _zero_pruned(part: Tensor, bits: Tensor) -> None:
    """``part & bits`` in place, on the floats' own bits: kept values stay as they are, pruned ones become +0.0.

    Half the time of ``part.mul_(mask)``, which has to turn booleans into floats, and pruned infinities and NaNs become
    zero too, where 0 · inf is NaN.
    """
    if part.is_complex():
        part, bits = torch.view_as_real(part.detach()), bits.unsqueeze(-1)
    part.detach().view(_INTEGERS[part.element_size()]).bitwise_and_(bits)


def unwrapped(optimizer: Optimizer | Sequence[Optimizer]) -> list[Optimizer]:
    """The torch optimisers behind what the caller has: accelerate's wrapper has no hooks of its own."""
    found = []
    for candidate in [optimizer] if isinstance(optimizer, Optimizer) else optimizer:
        while isinstance(inner := getattr(candidate, "optimizer", None), Optimizer):
            candidate = inner
        found.append(candidate)
    return found


def _require_trained(mask: Mask, parameters: dict[str, nn.Parameter], optimizers: Sequence[Optimizer]) -> None:
    trained = {id(p) for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]}
    strangers = [name for name in mask if parameters[name].requires_grad and id(parameters[name]) not in trained]
    if strangers:
        more = f" and {len(strangers) - 3} more" if len(strangers) > 3 else ""
        raise MaskError(
            f"the optimiser does not train {', '.join(strangers[:3])}{more}: it was made for another model, or before "
            "the model was sharded; make it from this model's parameters, or pass all optimisers as a list"
        )
