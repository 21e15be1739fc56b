"""Masks and weights across processes: one mask for all of them, and parameters that are sharded over them.

Under DDP every process holds the whole model: `broadcast_mask` gives all of them the mask of one. Under FSDP2
(``torch.distributed.fsdp.fully_shard``) and tensor parallelism a parameter is a ``DTensor`` of which a process holds a
part: masks stay whole (`Mask`) and are cut where they are used, as their parameters are cut.
"""

import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from audio_lottery.errors import MaskError
from audio_lottery.pruning.mask import Mask
from audio_lottery.pruning.parameters import is_sharded, pick

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor


@torch.no_grad()
def local_part(tensor: Tensor) -> Tensor:
    """What this process holds of ``tensor``, sharing its memory: the shard of a ``DTensor``, else the tensor itself."""
    return tensor.to_local() if is_sharded(tensor) else tensor


@torch.no_grad()
def cut_like(whole: Tensor, parameter: Tensor) -> Tensor:
    """The part of ``whole`` that belongs to this process's part of ``parameter``, on its device; no communication.

    Args:
        whole: a plain tensor with the global shape of ``parameter``, the same on every process.
        parameter: plain or ``DTensor``.

    Raises:
        MaskError: the parameter is sharded in a way that cannot be followed.
    """
    part = local_part(parameter)
    if is_sharded(parameter):
        from torch.distributed.tensor import distribute_tensor

        # src_data_rank=None: every process cuts its own copy. Without it each tensor would be scattered from rank 0.
        shape = parameter.shape
        whole = distribute_tensor(whole, parameter.device_mesh, parameter.placements, src_data_rank=None).to_local()
        if whole.shape != part.shape:
            raise MaskError(
                f"a parameter of shape {tuple(shape)} is sharded as {parameter.placements}, which a mask cannot follow "
                f"({tuple(whole.shape)} against {tuple(part.shape)}); shard it with fully_shard's default placement"
            )
    return whole.to(part.device)


def parameters_of(model: nn.Module, names: Iterable[str]) -> dict[str, nn.Parameter]:
    """The named parameters, to be read or written; of FSDP2 modules the sharded ones, which are trained and saved.

    A forward pass leaves gathered copies in place of the parameters of the root module; what is written into a copy is
    lost, so they are freed first.

    Raises:
        MaskError: a name is not a parameter of the model, a mask cannot hold the parameter, or it has no values.
    """
    module = sys.modules.get("torch.distributed.fsdp")
    if module is not None:
        for child in model.modules():
            if isinstance(child, module.FSDPModule):
                child.reshard()
    parameters = pick(model, names)
    empty = [name for name, parameter in parameters.items() if parameter.is_meta]
    if empty:
        more = f" and {len(empty) - 3} more" if len(empty) > 3 else ""
        raise MaskError(
            f"{', '.join(empty[:3])}{more}: on the meta device, which has shapes and no values; load the weights, or "
            "turn off what offloads them"
        )
    return parameters


def shard_mask(mask: Mask, model: nn.Module) -> dict[str, Tensor]:
    """Parameter name → this process's part of its mask, on the parameter's device.

    Raises:
        MaskError: the mask does not fit the model.
    """
    mask.check_fits(model)
    parameters = parameters_of(model, mask)
    return {name: cut_like(tensor, parameters[name]) for name, tensor in mask.items()}


def full_parameters(model: nn.Module, names: Iterable[str]) -> Iterator[tuple[str, Tensor]]:
    """Gather parameters one at a time, to score a model that no process holds whole.

    Every process must iterate to the end, and in the same order: each step is a collective.

    Args:
        model: sharded or not.
        names: parameters, for instance a mask.

    Yields:
        (name, the whole parameter, detached, on the device it lives on); one parameter is gathered at a time, and its
        memory is free again when the caller drops it.

    Raises:
        MaskError: a name is not a parameter of the model, a mask cannot hold the parameter, or it has no values.
    """
    for name, parameter in parameters_of(model, names).items():
        yield name, full_tensor(parameter)


@torch.no_grad()
def full_tensor(tensor: Tensor) -> Tensor:
    """``tensor`` whole and detached; a collective where it is a ``DTensor``."""
    return tensor.full_tensor().detach() if is_sharded(tensor) else tensor.detach()


@torch.no_grad()
def sum_over_shards(counts: Mapping[str, int], parameters: Mapping[str, Tensor]) -> dict[str, int]:
    """Sum what every process counted in its part of each parameter; replicas count once.

    Every process must call it with the same names; it communicates once per way of sharding, and not at all where
    nothing is sharded.
    """
    totals = dict(counts)
    groups: dict[tuple[object, object], list[tuple[str, DTensor]]] = {}
    for name in counts:
        parameter = parameters[name]
        if is_sharded(parameter):
            groups.setdefault((parameter.device_mesh, parameter.placements), []).append((name, parameter))
    for members in groups.values():
        from torch.distributed import tensor as dtensor

        names, sample = [name for name, _ in members], members[0][1]
        values = torch.tensor([counts[name] for name in names], device=local_part(sample).device)
        sums = [dtensor.Replicate() if place.is_replicate() else dtensor.Partial() for place in sample.placements]
        summed = dtensor.DTensor.from_local(values, sample.device_mesh, sums).full_tensor()
        totals |= zip(names, summed.tolist(), strict=True)
    return totals


def broadcast_mask(mask: Mask | None, src: int = 0) -> Mask:
    """Give every process the mask of one, and prove by hash that all hold the same bits.

    A collective: every process of the default group must call it. Without a process group it returns the mask.

    Args:
        mask: the mask on process ``src``; None on the others, or the mask that they made themselves, which must then be
            the same.
        src: rank whose mask it is.

    Returns:
        The mask of process ``src``.

    Raises:
        MaskError: process ``src`` has none, or another process made or received another one. Raised on every process.
    """
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        if mask is None:
            raise MaskError("no process group and no mask: give broadcast_mask the mask, or call init_process_group")
        return mask
    rank, size = torch.distributed.get_rank(), torch.distributed.get_world_size()
    # objects of builtin and torch types only; they travel between the processes of one run and never from a file
    payload = [dict(mask) if mask is not None and rank == src else None]
    torch.distributed.broadcast_object_list(payload, src=src)
    received = None if payload[0] is None else Mask(payload[0])
    mine = {
        "received": None if received is None else received.sha256(),
        "made": None if mask is None else mask.sha256(),
    }
    everyone: list[dict[str, str | None]] = [{} for _ in range(size)]
    torch.distributed.all_gather_object(everyone, mine)
    if received is None:
        raise MaskError(f"process {src} has no mask to broadcast; make it there, or name the process that has it (src)")
    wanted = everyone[src]["made"]
    wrong = [number for number, entry in enumerate(everyone) if entry["received"] != wanted]
    if wrong:
        raise MaskError(f"the mask of process {src} arrived with other bits on processes {wrong}; check the network")
    other = [number for number, entry in enumerate(everyone) if entry["made"] not in (None, wanted)]
    if other:
        raise MaskError(
            f"processes {other} made another mask than process {src}; their weights differ, or the scores are random "
            "with different seeds: make the mask on one process and pass None on the others"
        )
    return received
