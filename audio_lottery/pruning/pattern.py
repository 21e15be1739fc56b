"""What a pattern has to say, and how every pattern reads a parameter: as a matrix of output × input features.

A linear weight [out, in] is one already; so are the LSTM's [4·hidden, in] and [4·hidden, hidden]. A convolution kernel
[out, in/groups, k] or [out, in/groups, kh, kw] is flattened without moving anything in memory to [out, in/groups·k]:
the taps of input channel 0, then those of input channel 1, and so on (2-D taps row by row). A vector [n] is n outputs
of one input.

There are two kinds: a `GroupPattern` says which weights go together, and the ranking of the groups says how many of
which layer stay; a `FixedPattern` has one density and selects by itself.
"""

from abc import ABC, abstractmethod

import numpy as np
import torch
from torch import Tensor

from audio_lottery.pruning.selection import Size


class GroupPattern(ABC):
    """Groups of weights that are kept or pruned whole, in a grid [group rows, group columns] for every parameter."""

    spec: str
    """How a user writes the pattern."""

    @property
    def single(self) -> bool:
        """Whether every group is one weight."""
        return False

    @abstractmethod
    def reduce(self, name: str, scores: Tensor) -> Tensor:
        """Scores of the groups of the parameter ``name``, [group rows, group columns], float32.

        Raises:
            MaskError: the pattern does not suit the parameter.
        """

    @abstractmethod
    def sizes(self, shape: torch.Size) -> Size:
        """How many weights a group has: one number, or one per group (flat) where they differ."""

    @abstractmethod
    def grid(self, shape: torch.Size) -> torch.Size:
        """(group rows, group columns) of a parameter of ``shape``."""

    @abstractmethod
    def expand(self, groups: Tensor, shape: torch.Size) -> Tensor:
        """The mask of the weights, of ``shape``, from the mask of the groups."""

    @abstractmethod
    def whole(self, name: str, mask: Tensor) -> Tensor:
        """The groups that a mask of the weights keeps, [group rows, group columns].

        Raises:
            MaskError: the mask keeps some groups in part, or the pattern does not suit the parameter ``name``.
        """

    @abstractmethod
    def check(self, name: str, shape: torch.Size) -> None:
        """Refuse a parameter that the pattern does not suit.

        Raises:
            MaskError: it does not.
        """


class FixedPattern(ABC):
    """A pattern with one density in every layer, which selects by itself."""

    spec: str
    """How a user writes the pattern."""

    @property
    @abstractmethod
    def density(self) -> float:
        """The share of the weights that stays."""

    @abstractmethod
    def kept(self, weights: int) -> int:
        """How many of so many weights stay; exact."""

    @abstractmethod
    def select(self, name: str, scores: Tensor, among: Tensor | None = None) -> Tensor:
        """The mask of the best weights of the parameter ``name``, of the shape of ``scores``.

        Args:
            name: the parameter, for messages.
            scores: the parameter's shape, finite float32, on the CPU.
            among: only weights where this is true may be kept.

        Raises:
            MaskError: the pattern does not suit the parameter, or ``among`` keeps too few.
        """

    @abstractmethod
    def check(self, name: str, shape: torch.Size) -> None:
        """Refuse a parameter that the pattern does not suit.

        Raises:
            MaskError: it does not.
        """


Pattern = GroupPattern | FixedPattern


def matrix_shape(shape: torch.Size) -> tuple[int, int]:
    """(output features, input features) of a parameter of ``shape``."""
    rows = shape[0] if len(shape) else 1
    return rows, int(np.prod(shape[1:], dtype=np.int64))


def as_matrix(tensor: Tensor) -> Tensor:
    """The parameter as [output features, input features]; see the module's description for kernels."""
    return tensor.reshape(matrix_shape(tensor.shape))
