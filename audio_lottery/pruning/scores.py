"""How important a weight is: pure functions from weights to non-negative scores of the same shapes."""

from collections.abc import Mapping

from torch import Tensor


def magnitude(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """|w| in float32, on the CPU (Han et al. 2015, arXiv:1506.02626)."""
    return {name: weight.detach().abs().float().cpu() for name, weight in weights.items()}
