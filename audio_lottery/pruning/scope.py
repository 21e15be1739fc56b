"""Which parameters may be pruned, and why the others may not."""

import difflib
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn
from torch.nn.parameter import is_lazy
from torch.nn.utils.parametrize import ParametrizationList

from audio_lottery.errors import MaskError
from audio_lottery.pruning.parameters import Place, imported_types, places, unmaskable

_WEIGHTED = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
_ADAPTERS = (
    ("peft.tuners.tuners_utils", "BaseTunerLayer"),
    ("peft.utils.other", "AuxiliaryTrainingWrapper"),
    ("peft.utils.other", "ModulesToSaveWrapper"),
)


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

    Prunable by kind are the weights of linear, convolution (not transposed) and recurrent modules (LSTM, GRU, RNN; not
    the cells). Left out are biases, norms and embeddings; empty weights; weights that are not stored as plain floats
    (quantised, sparse); and whatever a module makes its weight of at each forward pass: weight norm, spectral norm and
    other parametrisations, old and new, ``torch.nn.utils.prune``, adapters of PEFT. Zeros in such tensors are not zeros
    of the weight. The other weights of the module stay in.

    Names are those without wrappers (``torch.compile``, DDP, activation checkpointing). A tied parameter has its first
    name, is excluded if an expression matches any of its names, and is prunable if it is so everywhere.

    Args:
        model: any torch model, wrapped or not.
        include: regular expressions, searched in the parameter's name; at least one must match.
        exclude: regular expressions that take a parameter out again.

    Raises:
        MaskError: an expression does not parse or matches only the prefix of a wrapper; a weight in the scope has no
            shape so far (lazy modules); nothing is left to prune (the nearest names are suggested).
    """
    found = places(model)
    included, excluded = _compile("include", include, found), _compile("exclude", exclude, found)
    behind = _reasons_of_modules(model)
    tied: dict[int, list[Place]] = {}
    for place in found:
        tied.setdefault(id(place.parameter), []).append(place)
    names: list[str] = []
    left_out: dict[str, str] = {}
    candidates: list[str] = []
    for same in tied.values():
        name = same[0].name
        reason = _reason(same, behind)
        if reason is None:
            candidates.append(name)
            reason = _choice([place.name for place in same], included, excluded)
        if reason is not None:
            left_out[name] = reason
        elif is_lazy(same[0].parameter):
            raise MaskError(f"'{name}' is {unmaskable(same[0].parameter)}")
        else:
            names.append(name)
    if not names:
        near = [n for pattern in include for n in difflib.get_close_matches(pattern, candidates, n=3, cutoff=0.3)]
        hint = f"nearest prunable names: {', '.join(near or candidates[:3])}" if candidates else _inventory(left_out)
        raise MaskError(f"the scope include={list(include)} exclude={list(exclude)} matches no prunable weight; {hint}")
    return Scope(names, left_out)


def _choice(names: list[str], included: list[re.Pattern[str]], excluded: list[re.Pattern[str]]) -> str | None:
    """Why the expressions leave a parameter of these names out; None where they do not."""
    for pattern in excluded:
        if any(pattern.search(name) for name in names):
            return f"excluded by '{pattern.pattern}'"
    if not any(pattern.search(name) for pattern in included for name in names):
        return "not included"
    return None


def _inventory(left_out: dict[str, str]) -> str:
    if not left_out:
        return "the model has no parameters"
    counts = Counter(left_out.values()).most_common()
    listed = ", ".join(f"{count} × {reason}" for reason, count in counts[:4])
    return f"the model has no weight that can be pruned: {listed}{', and others' if len(counts) > 4 else ''}"


def _reason(same: Sequence[Place], behind: dict[int, str]) -> str | None:
    """Why a parameter, given by all its places, may not be pruned; None where it may."""
    for place in same:
        reason = behind.get(id(place.module)) or _reason_by_kind(place)
        if reason is not None:
            return reason if place is same[0] else f"tied to '{place.name}' ({reason})"
    parameter = same[0].parameter
    if is_lazy(parameter):  # `find_scope` refuses it, unless it is left out by name
        return None
    if not parameter.numel():
        return f"empty: shape {tuple(parameter.shape)}"
    return unmaskable(parameter)


def _reason_by_kind(place: Place) -> str | None:
    module, local = place.module, place.local
    if local.startswith("bias"):
        return "bias"
    weights = _weights_of(module)
    if local in weights:
        return None
    # A weight that is not a parameter is made of others, which are called after it: weight_g, weight_orig.
    made = [name for name in weights if module._parameters.get(name) is None and local.startswith(name)]
    if made:
        return _parametrisation(_hooks_on(module, max(made, key=len)))
    return f"{type(module).__name__} parameter"


def _weights_of(module: nn.Module) -> list[str]:
    """The names of the weights that modules of this type multiply by, whether they are parameters now or not."""
    if isinstance(module, _WEIGHTED):
        return ["weight"]
    if isinstance(module, nn.RNNBase):
        return [name for name in module._flat_weights_names if name.startswith("weight")]
    return []


def _hooks_on(module: nn.Module, weight: str) -> list[object]:
    """The forward hooks that make ``weight`` (old weight and spectral norm, ``torch.nn.utils.prune``)."""
    hooks = module._forward_pre_hooks.values()
    return [hook for hook in hooks if weight in (getattr(hook, "name", None), getattr(hook, "_tensor_name", None))]


def _reasons_of_modules(model: nn.Module) -> dict[int, str]:
    """Module → why nothing that it holds can be pruned: it computes a weight for another module."""
    reasons: dict[int, str] = {}
    adapters = imported_types(*_ADAPTERS)
    for module in model.modules():
        reason = None
        if isinstance(module, ParametrizationList):
            reason = _parametrisation(module)
        elif isinstance(module, adapters):
            reason = "behind an adapter of PEFT; merge_and_unload() gives the weights that are used"
        if reason is not None:
            for inner in module.modules():
                reasons.setdefault(id(inner), reason)
    return reasons


def _parametrisation(makers: Sequence[object] | ParametrizationList) -> str:
    """For instance "behind a parametrisation (weight norm)", from the types of what computes the weight."""
    named = [re.sub(r"(?<=[a-z\d])(?=[A-Z])", " ", type(maker).__name__.strip("_")).lower() for maker in makers]
    return "behind a parametrisation" + (f" ({', '.join(named)})" if named else "")


def _compile(setting: str, patterns: Sequence[str], found: Sequence[Place]) -> list[re.Pattern[str]]:
    if isinstance(patterns, str):
        raise MaskError(f"{setting} is the string '{patterns}'; give a list of expressions: ['{patterns}']")
    try:
        compiled = [re.compile(pattern) for pattern in patterns]
    except re.error as error:
        raise MaskError(f"'{error.pattern!s}' is not a regular expression: {error.msg}") from error
    for pattern in compiled:
        prefixed = [place for place in found if pattern.search(place.full_name)]
        if prefixed and not any(pattern.search(place.name) for place in found):
            raise MaskError(
                f"{setting} '{pattern.pattern}' matches only with the prefix of a wrapper, as in "
                f"'{prefixed[0].full_name}'; names are those without it: '{prefixed[0].name}'"
            )
    return compiled
