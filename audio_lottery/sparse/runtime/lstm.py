"""`nn.LSTM` with sparse weights."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from audio_lottery.errors import ModelError
from audio_lottery.sparse.kernels.recurrent import GATES, SEGMENT, recur, recur_lanes
from audio_lottery.sparse.kernels.vector import WIDTH
from audio_lottery.sparse.runtime.linear import SparseLinear
from audio_lottery.sparse.runtime.matrix import KERNELS, Places, SparseMatrix, compile_matrix
from audio_lottery.sparse.runtime.modules import TRIAL_FRAMES, Packable, changed, input_array, no_kernel
from audio_lottery.sparse.runtime.threads import each, whole

# What a step of a whole vector of utterances takes, in steps of a single one (measured, hidden 320 to 1024).
_LANES_COST = 6
# Units are sorted where that saves a tenth of the slots: sorting takes apart what was pruned in blocks of rows.
_SORTING_PAYS = 0.9
_making = threading.Lock()

State = tuple[Tensor, Tensor]


class SparseLSTM(Packable):
    """Takes the place of `nn.LSTM`, with the same calls and outputs.

    The products with the input are those of a linear layer, for all frames at once. The recurrence runs step by step;
    directions and utterances share the threads.

    Args:
        lstm: the layer; it is not changed.
        precision: of the products with the input, see `accelerate.accelerate`; states and recurrences are float32.
        kernels: which kernels the products with the input may use, see `matrix.compile_matrix`; by default those of the
            precision.

    Raises:
        ModelError: a layer with projections (``proj_size``).
    """

    kind = "lstm"

    def __init__(self, lstm: nn.LSTM, precision: str = "float32", kernels: Sequence[str] | None = None) -> None:
        super().__init__()
        if lstm.proj_size:
            raise ModelError("an LSTM with projections (proj_size) cannot be accelerated: leave it as it is")
        self.input_size, self.hidden_size, self.num_layers = lstm.input_size, lstm.hidden_size, lstm.num_layers
        self.bidirectional, self.batch_first = lstm.bidirectional, lstm.batch_first
        self.directions = 2 if lstm.bidirectional else 1
        # not registered as modules: they are parts of this one, and no layers of the model
        self.layers: list[tuple[SparseLinear, list[_Recurrence]]] = []
        for number in range(self.num_layers):
            names = [f"l{number}{end}" for end in ("", "_reverse")[: self.directions]]
            self.layers.append(_compile_layer(lstm, names, precision, kernels))
        weights = [weight for weight in lstm.parameters() if weight.dim() > 1]
        self.kept = sum(int(torch.count_nonzero(weight)) for weight in weights)
        self.weights = sum(weight.numel() for weight in weights)
        self.kernel = self.layers[0][0].kernel
        self.macs_per_frame = self.weights

    @classmethod
    def claims(cls, module: nn.Module) -> bool:
        """See `Runner`; a subclass may do more than its base."""
        return type(module) is nn.LSTM

    @classmethod
    def misfit(cls, module: nn.LSTM) -> str:
        """See `Runner`."""
        return no_kernel(module) if module.proj_size else changed(module)

    @classmethod
    def trial_input(cls, module: nn.LSTM) -> Tensor:
        """See `Runner`."""
        shape = (1, TRIAL_FRAMES) if module.batch_first else (TRIAL_FRAMES, 1)
        return torch.randn(*shape, module.input_size)

    def unpack(self) -> dict[str, np.ndarray]:
        """See `Packable`."""
        found = {}
        for number, (linear, recurrences) in enumerate(self.layers):
            inputs = np.split(linear.unpack()["weight"], self.directions)
            for end, recurrence, rows in zip(("", "_reverse"), recurrences, inputs, strict=False):
                found[f"weight_ih_l{number}{end}"] = _rearranged(rows, recurrence.units, recurrence.size)
                found[f"weight_hh_l{number}{end}"] = recurrence.weight()
        return found

    def forward(
        self, input: Tensor | PackedSequence, hx: State | None = None
    ) -> tuple[Tensor, State] | tuple[PackedSequence, State]:
        """Apply the layers.

        Args:
            input: [frames, batch, features] ([batch, frames, features] if ``batch_first``), [frames, features], or a
                packed sequence; float32.
            hx: states h and c before the first frame, each [layers · directions, batch, hidden], without the batch
                where the input has none; zeros by default.

        Returns:
            The outputs of the last layer, arranged as the input, and the last states (h, c), arranged as ``hx``.

        Raises:
            ModelError: other shapes, no frames, or another type; see `modules.input_array`.
        """
        if isinstance(input, PackedSequence):
            frames, lengths = _packed_rows(input.batch_sizes)
            states = None if hx is None else _chosen(hx, input.sorted_indices)
            out, last = self.run(input.data, frames, lengths, states)
            packed = PackedSequence(out, input.batch_sizes, input.sorted_indices, input.unsorted_indices)
            return packed, _chosen(last, input.unsorted_indices)
        if input.dim() not in (2, 3) or input.shape[-1] != self.input_size:
            raise ModelError(f"an LSTM of {self.input_size} inputs got {tuple(input.shape)}")
        if input.dim() == 2:
            states = None if hx is None else (hx[0].unsqueeze(1), hx[1].unsqueeze(1))
            out, (h, c) = self.run(input, np.arange(len(input)), np.array([len(input)]), states)
            return out, (h.squeeze(1), c.squeeze(1))
        batch, length = input.shape[:2] if self.batch_first else (input.shape[1], input.shape[0])
        rows = np.arange(batch * length)
        if not self.batch_first:
            rows = rows.reshape(length, batch).T.reshape(-1)
        out, last = self.run(input.flatten(0, 1), rows, np.full(batch, length), hx)
        return out.view(*input.shape[:2], self.directions * self.hidden_size), last

    def run(self, x: Tensor, rows: np.ndarray, lengths: np.ndarray, hx: State | None) -> tuple[Tensor, State]:
        """All layers on [frames of all utterances, features]; ``rows`` are those of the first, then of the next …"""
        if x.shape[-1] != self.input_size:
            raise ModelError(f"an LSTM of {self.input_size} inputs got {tuple(x.shape)}")
        if len(lengths) and lengths.min() < 1:
            raise ModelError("an LSTM got an input without frames")
        shape = (self.num_layers * self.directions, len(lengths), self.hidden_size)
        if hx is None:
            first = [np.zeros(shape, np.float32)] * 2
        elif [tuple(part.shape) for part in hx] == [shape, shape]:
            first = [input_array(part, "a sparse LSTM").reshape(shape) for part in hx]
        else:
            raise ModelError(f"an LSTM whose states are {shape} got {' and '.join(str(tuple(p.shape)) for p in hx)}")
        last = np.empty((2, *shape), np.float32)
        for number, (linear, recurrences) in enumerate(self.layers):
            gates = linear(x)
            x = torch.empty(len(x), self.directions * self.hidden_size)
            layer = slice(number * self.directions, (number + 1) * self.directions)
            job = _Job(
                recurrences,
                gates.numpy().reshape(-1),
                x.numpy().reshape(-1),
                rows,
                lengths,
                [states[layer] for states in (*first, *last)],
            )
            if len(lengths):
                job.run()
        return x, (torch.from_numpy(last[0]), torch.from_numpy(last[1]))


@dataclass
class _Recurrence:
    """The recurrent matrix of a layer and direction, rows ordered as `kernels.recurrent` says, zeros up to ``size``."""

    units: np.ndarray
    size: int
    values: np.ndarray
    index: np.ndarray
    counts: np.ndarray
    _lanes: SparseMatrix | None = None

    @property
    def segment(self) -> int:
        return SEGMENT or self.size

    @property
    def lanes(self) -> SparseMatrix:
        """The same for batches, made when the first one comes."""
        with _making:
            if self._lanes is None:
                places = Places(np.arange(self.size), np.zeros(self.size, np.int64), WIDTH)
                self._lanes = compile_matrix(self._dense(), places, None, KERNELS["float32"])
        return self._lanes

    def weight(self) -> np.ndarray:
        """[4 · hidden, hidden], ordered as torch does."""
        rows = _rearranged(self._dense(), self.units, self.size)
        weight = np.empty((len(rows), self.units.size), np.float32)
        weight[:, self.units] = rows[:, : self.units.size]
        return weight

    def _dense(self) -> np.ndarray:
        block = np.repeat(np.arange(self.counts.size), self.counts)
        block, gate = np.divmod(block, GATES)
        group, segment = np.divmod(block, self.size // self.segment)
        row = (group * GATES + gate)[:, None] * WIDTH + np.arange(WIDTH)
        column = segment[:, None] * self.segment + self.index.reshape(-1, WIDTH)
        values = self.values.reshape(-1, WIDTH)
        dense = np.zeros((GATES * self.size, self.size), np.float32)
        kept = values != 0
        dense[row[kept], column[kept]] = values[kept]
        return dense


@dataclass(frozen=True)
class _Job:
    """One layer's recurrences on one input.

    Attributes:
        recurrences: of each direction.
        gates: [frames, directions · 4 · size], flat.
        out: [frames, directions · hidden], flat.
        rows: frames of the first utterance, then of the next.
        lengths: of every utterance.
        states: h and c before, h and c after: [directions, batch, hidden] each.
    """

    recurrences: list[_Recurrence]
    gates: np.ndarray
    out: np.ndarray
    rows: np.ndarray
    lengths: np.ndarray
    states: list[np.ndarray]

    def run(self) -> None:
        size, directions, batch = self.recurrences[0].size, len(self.recurrences), len(self.lengths)
        threads = torch.get_num_threads()
        turns = whole(directions * batch, threads) // threads
        groups = -(-batch // WIDTH)
        if turns <= _LANES_COST * (whole(directions * groups, threads) // threads):
            work: Callable[[int, np.ndarray], None] = self._alone
            each(work, directions * batch, 3 * size, "lstm")
            return
        # utterances of like length together
        order = np.argsort(-self.lengths, kind="stable")
        parts = np.array_split(order, groups)
        for recurrence in self.recurrences:
            _ = recurrence.lanes  # made by one thread

        def lanes(number: int, scratch: np.ndarray) -> None:
            direction, part = divmod(number, groups)
            self._together(direction, parts[part], scratch)

        each(lanes, directions * groups, (8 * size + WIDTH) * WIDTH, "lstm")

    def _begin(self, direction: int, items: np.ndarray) -> tuple[np.ndarray, int]:
        """Where in ``rows`` each item begins, and the step to the next."""
        first = np.cumsum(self.lengths) - self.lengths
        return (first[items] + self.lengths[items] - 1, -1) if direction else (first[items], 1)

    def _alone(self, number: int, scratch: np.ndarray) -> None:
        direction, item = divmod(number, len(self.lengths))
        recurrence = self.recurrences[direction]
        size, units = recurrence.size, recurrence.units
        state, cell, spare = scratch[:size], scratch[size : 2 * size], scratch[2 * size : 3 * size]
        for buffer, before in ((state, self.states[0]), (cell, self.states[1])):
            buffer[: units.size] = before[direction, item, units]
            buffer[units.size :] = 0
        begin, step = self._begin(direction, np.array([item]))
        recur(
            recurrence.values, recurrence.index, recurrence.counts, size // recurrence.segment,
            self.gates, len(self.recurrences) * GATES * size, direction * GATES * size,
            self.rows, begin[0], step, self.lengths[item], state, cell, spare,
            units, self.out, len(self.recurrences) * units.size, direction * units.size,
        )  # fmt: skip
        self.states[2][direction, item, units] = state[: units.size]
        self.states[3][direction, item, units] = cell[: units.size]

    def _together(self, direction: int, items: np.ndarray, scratch: np.ndarray) -> None:
        recurrence = self.recurrences[direction]
        matrix, size, units = recurrence.lanes, recurrence.size, recurrence.units
        state, cell, ends, work = np.split(scratch, [size * WIDTH, 2 * size * WIDTH, 4 * size * WIDTH])
        for buffer, before in ((state, self.states[0]), (cell, self.states[1])):
            buffer[:] = 0
            buffer.reshape(size, WIDTH)[: units.size, : items.size] = before[direction][np.ix_(items, units)].T
        begin, step = self._begin(direction, items)
        recur_lanes(
            matrix.kernel != "csr", matrix.values, matrix.columns, matrix.unit, matrix.pointers, matrix.bias,
            self.gates, len(self.recurrences) * GATES * size, direction * GATES * size,
            self.rows, begin, step, self.lengths[items], state, cell, work, ends,
            units, self.out, len(self.recurrences) * units.size, direction * units.size,
        )  # fmt: skip
        for part, after in zip(ends.reshape(2, WIDTH, size), self.states[2:], strict=True):
            after[direction][np.ix_(items, units)] = part[: items.size, : units.size]


def _compile_layer(
    lstm: nn.LSTM, names: list[str], precision: str, kernels: Sequence[str] | None
) -> tuple[SparseLinear, list[_Recurrence]]:
    """The products with the input of all directions as one linear layer, and the recurrences."""
    weights, biases, recurrences = [], [], []
    for name in names:
        recurrence = _compile_recurrence(_numbers(lstm, f"weight_hh_{name}"))
        recurrences.append(recurrence)
        weights.append(_arranged(_numbers(lstm, f"weight_ih_{name}"), recurrence.units, recurrence.size))
        if lstm.bias:
            bias = _numbers(lstm, f"bias_ih_{name}") + _numbers(lstm, f"bias_hh_{name}")
            biases.append(_arranged(bias, recurrence.units, recurrence.size))
    weight = torch.from_numpy(np.concatenate(weights))
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias=lstm.bias, device="meta")
    linear.weight = nn.Parameter(weight, requires_grad=False)
    if lstm.bias:
        linear.bias = nn.Parameter(torch.from_numpy(np.concatenate(biases)), requires_grad=False)
    return SparseLinear(linear, precision, kernels), recurrences


def _numbers(lstm: nn.LSTM, name: str) -> np.ndarray:
    parameter: Tensor = getattr(lstm, name)
    return parameter.detach().float().cpu().numpy()


def _compile_recurrence(weight: np.ndarray) -> _Recurrence:
    hidden = weight.shape[1]
    size = whole(hidden, SEGMENT or WIDTH)
    segment = SEGMENT or size
    kept = np.count_nonzero(weight.reshape(GATES, hidden, hidden), axis=(0, 2))
    units = np.arange(hidden)
    dense, counts = _slots(weight, units, size, segment)
    ordered = np.argsort(kept, kind="stable")
    other, fewer = _slots(weight, ordered, size, segment)
    if fewer.sum() < _SORTING_PAYS * counts.sum():
        units, dense, counts = ordered, other, fewer
    row, column = np.nonzero(dense)
    # which of its row's weights in its segment each one is
    run = row * (size // segment) + column // segment
    rank = np.arange(run.size) - np.searchsorted(run, run)
    group, gate = np.divmod(row // WIDTH, GATES)
    block = (group * (size // segment) + column // segment) * GATES + gate
    slot = (np.cumsum(counts) - counts)[block] + rank
    values = np.zeros((counts.sum(), WIDTH), np.float32)
    index = np.zeros(values.shape, np.min_scalar_type(segment - 1))
    values[slot, row % WIDTH] = dense[row, column]
    index[slot, row % WIDTH] = column % segment
    return _Recurrence(units, size, values.reshape(-1), index.reshape(-1), counts.astype(np.int32))


def _slots(weight: np.ndarray, units: np.ndarray, size: int, segment: int) -> tuple[np.ndarray, np.ndarray]:
    """The matrix with ``units`` in this order, and how many slots each group, segment and gate takes."""
    dense = np.zeros((GATES * size, size), np.float32)
    dense[:, : units.size] = _arranged(weight[:, units], units, size)
    kept = (dense != 0).reshape(size // WIDTH, GATES, WIDTH, size // segment, segment)
    return dense, kept.sum(4).max(2).transpose(0, 2, 1).reshape(-1)


def _arranged(rows: np.ndarray, units: np.ndarray, size: int) -> np.ndarray:
    """[4 · hidden, …] by gate as [4 · size, …]: the gates of the first `WIDTH` of ``units``, then of the next."""
    padded = np.zeros((GATES, size, *rows.shape[1:]), np.float32)
    padded[:, : units.size] = rows.reshape(GATES, units.size, *rows.shape[1:])[:, units]
    grouped = padded.reshape(GATES, size // WIDTH, WIDTH, *rows.shape[1:])
    return np.ascontiguousarray(grouped.swapaxes(0, 1)).reshape(GATES * size, *rows.shape[1:])


def _rearranged(rows: np.ndarray, units: np.ndarray, size: int) -> np.ndarray:
    """What `_arranged` was made from."""
    grouped = rows.reshape(size // WIDTH, GATES, WIDTH, *rows.shape[1:]).swapaxes(0, 1)
    gates = np.empty((GATES, units.size, *rows.shape[1:]), np.float32)
    gates[:, units] = grouped.reshape(GATES, size, *rows.shape[1:])[:, : units.size]
    return gates.reshape(GATES * units.size, *rows.shape[1:])


def _packed_rows(sizes: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Where the frames of every utterance of a packed sequence lie, and how many they are."""
    counts = sizes.numpy()
    starts = np.cumsum(counts) - counts
    lengths = (counts[:, None] > np.arange(counts[0])).sum(0)
    return np.concatenate([starts[:length] + number for number, length in enumerate(lengths)]), lengths


def _chosen(states: State, order: Tensor | None) -> State:
    """States of a batch in another order."""
    if order is None:
        return states
    return states[0].index_select(1, order), states[1].index_select(1, order)
