"""ScoreInputs for scores that need data: input norms and Taylor saliency on a few batches, movement during training."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from audio_lottery.errors import MaskError
from audio_lottery.pruning.distributed import cut_like, full_tensor, local_part, parameters_of
from audio_lottery.pruning.enforce import unwrapped
from audio_lottery.pruning.inputs import InputGrams, InputNorms
from audio_lottery.pruning.parameters import is_sharded
from audio_lottery.pruning.scores import ScoreInputs


def model_loss(model: nn.Module, batch: Any) -> Tensor:
    """The loss of a transformers model: ``model(**batch).loss``, tensors moved to the model's device first.

    Raises:
        MaskError: the batch is not a mapping, or the model returns no loss for it (labels are missing).
    """
    if not isinstance(batch, Mapping):
        raise MaskError(f"a batch is a {type(batch).__name__}, not a mapping; pass loss=(model, batch) -> loss")
    device = next(model.parameters()).device
    output = model(**{key: value.to(device) if isinstance(value, Tensor) else value for key, value in batch.items()})
    value = getattr(output, "loss", None)
    if value is None:
        raise MaskError("the model returned no loss for a calibration batch; add labels, or pass loss=")
    return value


def collect(
    model: nn.Module,
    scope_names: Sequence[str],
    batches: Iterable[Any],
    loss: Callable[[nn.Module, Any], Tensor] = model_loss,
    activations: bool = True,
    saliency: bool = True,
    grams: bool = False,
    max_batches: int | None = None,
) -> ScoreInputs:
    """Run calibration batches through a model and gather what data-aware scores need.

    The model runs in evaluation mode (no dropout, no SpecAugment, fixed batch norms). Nothing of it changes: training
    modes, ``requires_grad``, gradients, hooks and the random state are as before, also when a batch raises.

    - ``activations`` (Wanda: Sun et al. 2023, arXiv:2306.11695): the L2 norm of every input feature over all positions
      of all batches. Linear: [in]. Convolution: [in / groups · kernel], in the order of
      ``weight.reshape(out, -1)``; every position at which the kernel looks counts, padding as the layer pads; with
      groups, whose outputs see different inputs, [out, in / groups · kernel]. Recurrent: ``weight_ih`` [in] of the
      layer's inputs, ``weight_hh`` [hidden] of the hidden states before each step. Padded frames count like any other:
      use batches of equal length, or of one utterance, where that matters (a ``PackedSequence`` has none).
    - ``grams`` (second order: Frantar & Alistarh 2023, arXiv:2301.00774): Σ x xᵀ over the same inputs x, [in, in];
      with groups [groups, in, in]. Off by default: a layer of 3,072 inputs has 113 MB of them while it sums.
    - ``saliency`` (Taylor: Molchanov et al. 2019, arXiv:1906.10771): Σ over batches of |w · ∂loss/∂w|, the weight's
      shape; every batch counts the same, whatever its size.

    Args:
        model: any torch model, not sharded.
        scope_names: parameters to gather for, as `find_scope` or a mask names them.
        batches: read once, lazily.
        loss: (model, batch) → scalar; also what runs the forward pass when only activations are asked for.
        activations: gather input norms.
        saliency: gather |weight × gradient|; costs a backward pass per batch.
        grams: gather products of pairs of inputs.
        max_batches: stop after so many; None reads all.

    Returns:
        ScoreInputs with float32 tensors on the CPU.

    Raises:
        MaskError: no batches; a name is not a parameter, is sharded or complex, or is not reached by the batches;
            inputs that hooks cannot see; a loss that is not a scalar or not finite.
    """
    parameters = _named(model, scope_names)
    norms = InputNorms(model, parameters) if activations else None
    pairs = InputGrams(model, parameters) if grams else None
    totals = {name: torch.zeros_like(p, dtype=torch.float32) for name, p in parameters.items()} if saliency else {}
    reached: set[str] = set()
    count = 0
    with _undisturbed(model, parameters), norms or nullcontext(), pairs or nullcontext():
        for count, batch in enumerate(islice(batches, max_batches), start=1):
            with torch.set_grad_enabled(saliency):
                value = _checked(loss(model, batch), count, saliency)
            if saliency:
                gradients = torch.autograd.grad(value, list(parameters.values()), allow_unused=True)
                for (name, parameter), gradient in zip(parameters.items(), gradients, strict=True):
                    if gradient is not None:
                        reached.add(name)
                        totals[name] += (parameter.detach().float() * gradient.float()).abs()
    if not count:
        raise MaskError("the calibration set is empty; give at least one batch (a few dozen utterances are usual)")
    if saliency and (unused := [name for name in parameters if name not in reached]):
        raise MaskError(f"the loss does not depend on {', '.join(unused)}; leave them out of the scope")
    for name, total in totals.items():
        if not torch.isfinite(total).all():
            raise MaskError(f"gradients of '{name}' are NaN or infinite on the calibration set; use float32 weights")
    return ScoreInputs(
        activations=norms.result() if norms is not None else None,
        saliency={name: total.cpu() for name, total in totals.items()} if saliency else None,
        grams=pairs.result() if pairs is not None else None,
    )


class MovementAccumulator:
    """Movement scores gathered while a model trains (Sanh et al. 2020, arXiv:2005.07683): S ← S − lr · w · ∂L/∂w.

    A weight that moves away from zero gains, one that shrinks loses, whatever its size. Reads the gradients that each
    optimiser step uses: accumulated, clipped, unscaled; steps that a loss scaler skips do not count. `enforce` masks
    the gradients of pruned weights, so that their scores stand still.

    Sharded parameters are scored where they lie; then `state_dict`, `load_state_dict` and `score_inputs` are
    collectives.

    Args:
        model: the model in training.
        names: parameters to score.
        optimizer: the torch optimiser that trains them, or accelerate's wrapper.

    Raises:
        MaskError: a name is not a parameter or a complex one, or the optimiser does not train it.
    """

    def __init__(self, model: nn.Module, names: Sequence[str], optimizer: Optimizer) -> None:
        self._parameters = _named(model, names, sharded=True)
        self._scores = {
            name: torch.zeros_like(local_part(p), dtype=torch.float32) for name, p in self._parameters.items()
        }
        (inner,) = unwrapped(optimizer)
        self._groups = {id(p): group for group in inner.param_groups for p in group["params"]}
        strangers = [name for name, parameter in self._parameters.items() if id(parameter) not in self._groups]
        if strangers:
            raise MaskError(
                f"the optimiser does not train {', '.join(strangers)}; movement needs its learning rate: leave frozen "
                "weights out of the scope, or make the optimiser from this model's parameters"
            )
        self._hook = inner.register_step_pre_hook(self._before_step)

    def remove(self) -> None:
        """Stop reading steps; the scores stay."""
        self._hook.remove()

    def __enter__(self) -> "MovementAccumulator":
        return self

    def __exit__(self, *exception: object) -> None:
        self.remove()

    def score_inputs(self) -> ScoreInputs:
        """What `prune` takes: parameter → movement, float32 on the CPU; negative where weights shrank."""
        return ScoreInputs(movement=self.state_dict())

    def state_dict(self) -> dict[str, Tensor]:
        """Parameter → scores so far, whole, float32 on the CPU: plain tensors for a safetensors file."""
        return {name: self._whole(name).cpu().clone() for name in self._scores}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Continue from what `state_dict` gave.

        Raises:
            MaskError: other names or shapes.
        """
        shapes = {name: tuple(parameter.shape) for name, parameter in self._parameters.items()}
        if {name: tuple(tensor.shape) for name, tensor in state.items()} != shapes:
            raise MaskError("the movement scores are of other parameters or shapes than those that are trained now")
        for name, tensor in state.items():
            self._scores[name].copy_(cut_like(tensor, self._parameters[name]))

    def _whole(self, name: str) -> Tensor:
        parameter, score = self._parameters[name], self._scores[name]
        if is_sharded(parameter):
            from torch.distributed.tensor import DTensor

            mesh, placements = parameter.device_mesh, parameter.placements
            score = DTensor.from_local(score, mesh, placements, shape=parameter.shape, stride=parameter.stride())
        return full_tensor(score)

    @torch.no_grad()
    def _before_step(self, optimizer: Any, *_: Any) -> None:
        # A GradScaler hands fused optimisers the scale and the overflow flag; others get unscaled gradients or no step.
        overflow, scale = getattr(optimizer, "found_inf", None), getattr(optimizer, "grad_scale", None)
        if overflow is not None and bool(overflow):
            return
        for name, parameter in self._parameters.items():
            if parameter.grad is None:
                continue
            rate = float(self._groups[id(parameter)]["lr"]) / (1.0 if scale is None else float(scale))
            weight, gradient = local_part(parameter), local_part(parameter.grad)
            self._scores[name].addcmul_(weight.float(), gradient.float(), value=-rate)


def _named(model: nn.Module, names: Sequence[str], sharded: bool = False) -> dict[str, nn.Parameter]:
    parameters = parameters_of(model, names)
    if not sharded and any(is_sharded(parameter) for parameter in parameters.values()):
        raise MaskError("the model is sharded; collect on calibration data before fully_shard, or from a whole copy")
    for name, parameter in parameters.items():
        if parameter.is_complex():
            raise MaskError(
                f"'{name}' is {parameter.dtype}, and scores look at real weights only; leave it out, or "
                "score by magnitude, lamp or random"
            )
    return parameters


def _checked(value: Any, number: int, differentiable: bool) -> Tensor:
    """The loss of batch ``number``, or an error that says what is wrong with it."""
    if not isinstance(value, Tensor) or value.numel() != 1:
        raise MaskError(f"calibration batch {number}: loss must return a scalar tensor, not {type(value).__name__}")
    if not torch.isfinite(value):
        raise MaskError(f"calibration batch {number}: the loss is {value.item()}; leave it out or check its labels")
    if differentiable and not value.requires_grad:
        raise MaskError(f"calibration batch {number}: the loss does not depend on the weights of the scope")
    return value.reshape(())


@contextmanager
def _undisturbed(model: nn.Module, parameters: Mapping[str, nn.Parameter]) -> Iterator[None]:
    """Evaluation mode, gradients for the scope alone, and everything as it was afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    wanted = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    scope = {id(parameter) for parameter in parameters.values()}
    devices = {parameter.device for parameter in parameters.values() if parameter.device.type == "cuda"}
    # cuDNN has no backward pass for recurrent layers in evaluation mode; torch's own kernels do.
    recurrent = any(isinstance(module, nn.RNNBase) for module in model.modules())
    cudnn = torch.backends.cudnn.flags(enabled=False) if devices and recurrent else nullcontext()
    # transformers draws layerdrop numbers in evaluation mode too: the caller's random state must not move
    with torch.random.fork_rng(devices=list(devices)), cudnn:
        try:
            model.eval()
            for parameter, _ in wanted:
                parameter.requires_grad_(id(parameter) in scope)
            yield
        finally:
            for parameter, requires_grad in wanted:
                parameter.requires_grad_(requires_grad)
            for module, training in modes:
                module.training = training
