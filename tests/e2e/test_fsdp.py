"""Two real processes (gloo): one mask for both, held under DDP and under FSDP2, equal to training on one process.

The test starts this file twice, as torchrun would; what each process measured comes back in files.
"""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from audio_lottery import pruning
from audio_lottery.errors import MaskError
from audio_lottery.pruning import Enforcer, Mask, Rule, ScoreInputs, exact_count, find_scope, prune
from audio_lottery.pruning.calibrate import MovementAccumulator, collect
from audio_lottery.pruning.distributed import broadcast_mask, full_parameters, full_tensor, shard_mask
from audio_lottery.pruning.enforce import clear_state, enforce

ROOT = Path(__file__).resolve().parents[2]
STEPS = 6

# Ways to prune a sharded model; every one must give the mask of the whole model.
PRUNINGS: dict[str, dict[str, object]] = {
    "magnitude": {},
    "lamp": {"score": "lamp"},
    "random": {"score": "random"},
    "wanda": {"score": "wanda", "allocation": "uniform"},
    "taylor": {"score": "taylor", "allocation": "erk"},
    "movement": {"score": "movement"},
    "uniform_plus": {"allocation": "uniform_plus"},
    "blocks": {"pattern": "block:1x3"},
    "rows": {"pattern": "rows", "rules": [Rule("^6", dense=True)]},
    "part of the scope": {"among": ([r"^[035]\."], ["^5"])},
}


def build() -> nn.Sequential:
    """Rows that two processes cannot share evenly: 7, 5, 3 and 1 (of which the second process holds none)."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv1d(3, 7, 3), nn.ReLU(), nn.Flatten(), nn.Linear(42, 5), nn.Tanh(), nn.Linear(5, 3), nn.Linear(3, 1)
    )


def make_mask(seed: int) -> Mask:
    generator = torch.Generator().manual_seed(seed)
    parameters = dict(build().named_parameters())
    names = ["0.weight", "3.weight", "5.weight", "6.weight"]
    tensors = {name: torch.rand(parameters[name].shape, generator=generator) < 0.4 for name in names}
    tensors["6.weight"][:, 0] = False
    return Mask(tensors)


def data(step: int, half: int) -> Tensor:
    return torch.randn(4, 3, 8, generator=torch.Generator().manual_seed(10 * step + half))


def train(model: nn.Module, masked: nn.Module, halves: list[int]) -> tuple[list[float], dict[str, Tensor]]:
    """AdamW with clipping; the mask changes in the middle. Returns gradient norms and movement scores.

    Args:
        model: what is called; masked: the module whose parameters the mask names.
        halves: which halves of each batch this process sees; losses are means, as DDP and FSDP average gradients.
    """
    optimizer = torch.optim.AdamW(masked.parameters(), lr=0.05, weight_decay=0.1)
    norms = []
    with (
        enforce(make_mask(1), masked, optimizer) as handle,
        MovementAccumulator(masked, list(make_mask(1)), optimizer) as movement,
    ):
        for step in range(STEPS):
            if step == STEPS // 2:
                handle.update(make_mask(2))
                clear_state(make_mask(2), masked, optimizer)
            sum(model(data(step, half)).square().mean() for half in halves).div(len(halves)).backward()
            norm = nn.utils.clip_grad_norm_(masked.parameters(), 0.1)
            norms.append(float(full_tensor(norm)))
            optimizer.step()
            optimizer.zero_grad()
            pruning.check(handle.mask, masked)
        return norms, movement.state_dict()


def message(action: Callable[[], object]) -> str:
    try:
        action()
    except MaskError as error:
        return str(error)
    return "no error"


def score_inputs() -> ScoreInputs:
    generator = torch.Generator().manual_seed(5)
    weights = {name: dict(build().named_parameters())[name] for name in make_mask(1)}
    return ScoreInputs(
        seed=3,
        activations={name: torch.rand(weight[0].numel(), generator=generator) for name, weight in weights.items()},
        saliency={name: torch.rand(weight.shape, generator=generator) for name, weight in weights.items()},
        movement={name: torch.randn(weight.shape, generator=generator) for name, weight in weights.items()},
    )


def check_prune(rank: int) -> dict[str, object]:
    """`prune` on a sharded model against `prune` on the whole one; then the mask is held while the model trains."""
    from torch.distributed.fsdp import fully_shard

    whole, model = build(), build()
    for index in (0, 3):
        fully_shard(model[index])
    fully_shard(model)
    before = {name: parameter.to_local().clone() for name, parameter in model.named_parameters()}
    with torch.no_grad():
        model(data(0, 0))  # leaves gathered copies in the root module
    same, nested = {}, {}
    for name, options in PRUNINGS.items():
        options = dict(options)
        scope = options.pop("among", ([".*"], []))
        found = prune(model, 0.5, among=find_scope(model, *scope), score_inputs=score_inputs(), **options)
        same[name] = found == prune(whole, 0.5, among=find_scope(whole, *scope), score_inputs=score_inputs(), **options)
        sparser = prune(model, 0.3, among=found, score_inputs=score_inputs(), **options)
        nested[name] = sparser.is_subset_of(found) and (
            sparser == prune(whole, 0.3, among=found, score_inputs=score_inputs(), **options)
        )
    touched = [n for n, p in model.named_parameters() if not torch.equal(p.to_local(), before[n])]

    optimizer = torch.optim.AdamW(model.parameters(), lr=0.05, weight_decay=0.1)
    mask = prune(model, 0.5)
    pruning.apply(mask, model)
    exact = []
    with enforce(mask, model, optimizer) as handle:
        for step in range(4):
            if step == 2:  # gradual pruning of weights that no process holds whole
                handle.update(prune(model, 0.25, among=handle.mask))
                clear_state(handle.mask, model, optimizer)
            model(data(step, rank)).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
            pruning.check(handle.mask, model)
            alive = sum(int(torch.count_nonzero(tensor)) for _, tensor in full_parameters(model, handle.mask))
            exact.append(alive == handle.mask.kept == exact_count(handle.mask.density(), mask.prunable))
    with torch.no_grad():
        if rank == 1:
            model[3].weight.to_local()[0, 0] = float("nan")
    return {
        "same": same,
        "nested": nested,
        "scope": find_scope(model).names == find_scope(whole).names,
        "touched": touched,
        "exact": exact,
        "hash": handle.mask.sha256(),
        "nan": message(lambda: prune(model, 0.5)),
        "collect": message(lambda: collect(model, ["0.weight"], [data(0, 0)], loss=lambda m, b: m(b).sum())),
    }


def check_broadcast(rank: int) -> dict[str, object]:
    mask, other = make_mask(1), make_mask(2)
    return {
        "from 0": broadcast_mask(mask if rank == 0 else None) == mask,
        "from 1": broadcast_mask(other if rank == 1 else None, src=1) == other,
        "order": list(broadcast_mask(mask if rank == 0 else None)) == list(mask),
        "same": broadcast_mask(mask) == mask,
        "differs": message(lambda: broadcast_mask(mask if rank == 0 else other)),
        "none": message(lambda: broadcast_mask(None if rank == 0 else other)),
    }


def check_ddp(folder: Path, rank: int) -> dict[str, object]:
    model = build()
    norms, movement = train(DistributedDataParallel(model), model, [rank])
    save_file(model.state_dict(), folder / f"ddp-{rank}.safetensors")
    save_file(movement, folder / f"ddp-movement-{rank}.safetensors")
    return {"norms": norms}


def check_fsdp(folder: Path, rank: int) -> dict[str, object]:
    from torch.distributed.fsdp import fully_shard

    model = build()
    for index in (0, 3):
        fully_shard(model[index])
    fully_shard(model)
    norms, movement = train(model, model, [rank])
    mask = make_mask(2)

    parts = shard_mask(mask, model)
    shapes = {name: list(part.shape) for name, part in parts.items()}
    local = {name: list(parameter.to_local().shape) for name, parameter in model.named_parameters() if name in mask}
    with torch.no_grad():
        model(data(0, 0))  # leaves gathered copies in the root module, in which nothing may be written
    alive = message(lambda: pruning.check(mask, model))
    revive = shard_mask(mask, model)["3.weight"]
    if rank == 1:
        with torch.no_grad():
            model[3].weight.to_local()[~revive] = 1.0
    result = {"norms": norms, "shapes": shapes, "local": local, "alive": alive}
    result["revived"] = message(lambda: pruning.check(mask, model))
    with torch.no_grad():
        model(data(0, 0))
    pruning.apply(mask, model)
    result["applied"] = message(lambda: pruning.check(mask, model))
    Enforcer(mask, model).mask_weights()
    result["misfit"] = message(lambda: Enforcer(Mask({"0.weight": torch.ones(4, 3, 3, dtype=torch.bool)}), model))
    stale = torch.optim.SGD(build().parameters(), lr=0.1)
    result["stale"] = message(lambda: enforce(mask, model, stale))
    result["unknown"] = message(lambda: list(full_parameters(model, ["9.weight"])))
    whole = {name: tensor.clone() for name, tensor in full_parameters(model, [n for n, _ in model.named_parameters()])}
    save_file(whole, folder / f"fsdp-{rank}.safetensors")
    save_file(movement, folder / f"fsdp-movement-{rank}.safetensors")
    return result


def main(folder: Path) -> None:
    """What each process does."""
    torch.distributed.init_process_group("gloo")
    rank = torch.distributed.get_rank()
    assert torch.distributed.get_world_size() == 2
    report = {
        "broadcast": check_broadcast(rank),
        "ddp": check_ddp(folder, rank),
        "fsdp": check_fsdp(folder, rank),
        "prune": check_prune(rank),
    }
    (folder / f"report-{rank}.json").write_text(json.dumps(report))
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def both(tmp_path_factory) -> tuple[Path, list[dict]]:
    """Folder and reports of two processes that ran `main`."""
    folder = tmp_path_factory.mktemp("two-processes")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    shared |= {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(ROOT)}
    processes = [
        subprocess.Popen(
            [sys.executable, __file__, str(folder)],
            env=os.environ | shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    deadline = time.monotonic() + 120
    try:  # one that fails leaves the other waiting in a collective
        while any(process.poll() is None for process in processes) and time.monotonic() < deadline:
            if any(process.poll() not in (None, 0) for process in processes):
                break
            time.sleep(0.1)
    finally:
        for process in processes:
            process.kill()
    for process in processes:
        output = process.communicate()[0]
        assert process.returncode == 0, output
    return folder, [json.loads((folder / f"report-{rank}.json").read_text()) for rank in range(2)]


@pytest.fixture(scope="module")
def alone() -> tuple[nn.Module, list[float], dict[str, Tensor]]:
    """The same training on one process that sees both halves of every batch."""
    model = build()
    norms, movement = train(model, model, [0, 1])
    return model, norms, movement


def test_every_process_gets_the_mask_of_one(both):
    for report in both[1]:
        found = report["broadcast"]
        assert [found[key] for key in ("from 0", "from 1", "order", "same")] == [True] * 4


def test_masks_that_differ_are_refused_on_every_process(both):
    for report in both[1]:
        assert report["broadcast"]["differs"].startswith("processes [1] made another mask than process 0;")
        assert report["broadcast"]["none"].startswith("process 0 has no mask to broadcast;")


@pytest.mark.parametrize("kind", ["ddp", "fsdp"])
def test_two_processes_train_as_one(both, alone, kind):
    folder, reports = both
    model, norms, movement = alone
    for rank in range(2):
        weights = load_file(folder / f"{kind}-{rank}.safetensors")
        assert weights.keys() == model.state_dict().keys()
        for name, tensor in model.state_dict().items():
            torch.testing.assert_close(weights[name], tensor, rtol=1e-4, atol=1e-5, msg=name)
        for name, tensor in make_mask(2).items():
            assert not weights[name][~tensor].any()
            assert torch.equal(weights[name] != 0, model.get_parameter(name).detach() != 0)
        assert reports[rank][kind]["norms"] == pytest.approx(norms, rel=1e-4)  # clipping saw the survivors only
        scores = load_file(folder / f"{kind}-movement-{rank}.safetensors")
        for name, tensor in movement.items():
            torch.testing.assert_close(scores[name], tensor, rtol=1e-3, atol=1e-6, msg=name)


def test_masks_are_cut_like_their_parameters(both):
    _, (first, second) = both
    assert first["fsdp"]["shapes"] == first["fsdp"]["local"]
    assert second["fsdp"]["shapes"] == second["fsdp"]["local"]
    rows = {name: (shape[0], second["fsdp"]["shapes"][name][0]) for name, shape in first["fsdp"]["shapes"].items()}
    assert rows == {"0.weight": (4, 3), "3.weight": (3, 2), "5.weight": (2, 1), "6.weight": (1, 0)}


@pytest.mark.parametrize("name", PRUNINGS)
def test_a_sharded_model_is_pruned_like_the_whole_one(both, name):
    for report in both[1]:
        assert report["prune"]["same"][name]
        assert report["prune"]["nested"][name]


def test_pruning_a_sharded_model_is_exact_and_the_same_on_every_process(both):
    _, reports = both
    for report in reports:
        assert report["prune"]["scope"]
        assert report["prune"]["touched"] == []
        assert report["prune"]["exact"] == [True] * 4
        assert report["prune"]["nan"].startswith("'3.weight' has weights")  # on the process that has none of them too
        assert "is sharded; collect on calibration data before fully_shard" in report["prune"]["collect"]
    assert reports[0]["prune"]["hash"] == reports[1]["prune"]["hash"]


def test_a_weight_revived_on_one_process_is_seen_on_both(both):
    pruned = int((~make_mask(2)["3.weight"][3:]).sum())  # the rows of the second process
    for report in both[1]:
        assert report["fsdp"]["alive"] == "no error"
        assert report["fsdp"]["revived"].startswith(f"weights outside the mask are not zero: 3.weight ({pruned});")
        assert report["fsdp"]["applied"] == "no error"


def test_user_errors_on_sharded_models(both):
    for report in both[1]:
        assert "'0.weight' is (4, 3, 3) here and (7, 3, 3) in the model" in report["fsdp"]["misfit"]
        assert "made for another model, or before the model was sharded" in report["fsdp"]["stale"]
        assert report["fsdp"]["unknown"] == "no parameters of the model: 9.weight"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
