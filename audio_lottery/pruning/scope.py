"""Which parameters may be pruned, and why the others may not."""

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn
from torch.nn.utils import parametrize

from audio_lottery.errors import MaskError

_WEIGHTED = (nn.Linear, nn.Conv1d, nn.Conv2d)


@dataclass(frozen=True)
class Scope:
    """The split of a model's parameters into prunable and left out.

    Attributes:
        names: prunable parameters, in the model's order.
        left_out: every other parameter → the reason.
    """

    names: list[str]
    left_out: dict[str, str]


def find_scope(model: nn.Module, include: Sequence[str] = (".*",), exclude: Sequence[str] = ()) -> Scope:
    """Split the parameters of ``model``.

    Prunable by kind are the weights of linear, convolution and recurrent modules. Left out are biases, norms and
    embeddings, and weights behind a parametrisation such as weight norm: their stored tensors are factors of it,
    so zeros in them are no zeros of the weight.

    Args:
        model: any torch model.
        include: regular expressions, searched in the parameter's name; at least one must match.
        exclude: regular expressions that take a parameter out again.

    Raises:
        MaskError: an expression does not parse, or nothing is left to prune (the nearest names are suggested).
    """
    included = _compile(include)
    excluded = _compile(exclude)
    names: list[str] = []
    left_out: dict[str, str] = {}
    reasons = _reasons_by_kind(model)
    for name, _ in model.named_parameters():
        reason = reasons[name]
        hit = next((pattern.pattern for pattern in excluded if pattern.search(name)), None)
        if reason is None and hit is not None:
            reason = f"excluded by '{hit}'"
        if reason is None and not any(pattern.search(name) for pattern in included):
            reason = "not included"
        if reason is None:
            names.append(name)
        else:
            left_out[name] = reason
    if not names:
        candidates = [name for name, reason in reasons.items() if reason is None]
        near = [n for pattern in include for n in difflib.get_close_matches(pattern, candidates, n=3, cutoff=0.3)]
        hint = f"; nearest prunable names: {', '.join(near or candidates[:3])}" if candidates else ""
        raise MaskError(f"the scope include={list(include)} exclude={list(exclude)} matches no prunable weight{hint}")
    return Scope(names, left_out)


def _reasons_by_kind(model: nn.Module) -> dict[str, str | None]:
    reasons: dict[str, str | None] = {}
    seen: set[int] = set()
    for module_name, module in model.named_modules():
        for parameter_name, parameter in module.named_parameters(recurse=False):
            if id(parameter) in seen:  # tied weights count once, under their first name, as in named_parameters()
                continue
            seen.add(id(parameter))
            name = f"{module_name}.{parameter_name}" if module_name else parameter_name
            reasons[name] = _reason(module, parameter_name)
    for module_name, module in model.named_modules():
        if parametrize.is_parametrized(module):
            prefix = f"{module_name}." if module_name else ""
            for name in reasons:
                if name.startswith(f"{prefix}parametrizations."):
                    reasons[name] = "behind a parametrisation (weight norm)"
    return reasons


def _reason(module: nn.Module, parameter: str) -> str | None:
    if parameter.startswith("bias"):
        return "bias"
    if isinstance(module, _WEIGHTED) and parameter == "weight":
        return None
    if isinstance(module, nn.RNNBase) and parameter.startswith("weight"):
        return None
    return f"{type(module).__name__} parameter"


def _compile(patterns: Sequence[str]) -> list[re.Pattern[str]]:
    try:
        return [re.compile(pattern) for pattern in patterns]
    except re.error as error:
        raise MaskError(f"'{error.pattern!s}' is not a regular expression: {error.msg}") from error
