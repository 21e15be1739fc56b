"""Names, scopes and masks are the same on a model and on the model inside wrappers."""

import sys
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest
import torch
from accelerate import Accelerator, cpu_offload
from torch import Tensor, nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper, offload_wrapper
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel

from audio_lottery.errors import MaskError
from audio_lottery.pruning import (
    Enforcer,
    Mask,
    MovementAccumulator,
    Rule,
    ScoreInputs,
    apply,
    check,
    collect,
    enforce,
    find_scope,
    prune,
)
from audio_lottery.pruning.distributed import full_parameters
from audio_lottery.pruning.enforce import clear_state
from audio_lottery.pruning.parameters import named_parameters

HEAD = [r"^lm_head\."]


class Block(nn.Module):
    """Its children are called what wrappers call what they wrap, and must keep their names."""

    def __init__(self) -> None:
        super().__init__()
        self.module = nn.Linear(6, 6)
        self._orig_mod = nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        return self._orig_mod(self.module(x))


class Wav2Vec2(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(6, 6), Block())
        self.lm_head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.lm_head(self.encoder(x))


NAMES = ["encoder.0.weight", "encoder.1.module.weight", "encoder.1._orig_mod.weight"]


def build() -> Wav2Vec2:
    torch.manual_seed(0)
    return Wav2Vec2()


def compiled(model: nn.Module) -> nn.Module:
    return torch.compile(model, backend="eager")


def inside(model: Wav2Vec2, wrap: Callable[[nn.Module], nn.Module]) -> Wav2Vec2:
    """Parts of the model are wrapped, and parts of those parts."""
    model.encoder[1].module = wrap(model.encoder[1].module)
    model.encoder[1] = wrap(model.encoder[1])
    model.lm_head = wrap(model.lm_head)
    return model


def sharded(model: Wav2Vec2) -> nn.Module:
    for part in (model.encoder[1], model.lm_head, model):
        fully_shard(part)
    return model


class Holder(nn.Module):
    """What DeepSpeed's engine and PEFT's models look like from outside; neither is needed to test names."""

    def __init__(self, model: nn.Module, attribute: str) -> None:
        super().__init__()
        self.add_module(attribute, model)


class FakeEngine(Holder):
    """Stands for ``DeepSpeedEngine``."""


class FakePeft(Holder):
    """Stands for ``PeftModel``."""


class FakeTuner(Holder):
    """Stands for what PEFT puts between its model and the one that is adapted."""


WRAPPERS: dict[str, Callable[[Wav2Vec2], nn.Module]] = {
    "compiled": compiled,
    "compiled inside": lambda model: inside(model, compiled),
    "compiled inside and outside": lambda model: compiled(inside(model, compiled)),
    "ddp": DistributedDataParallel,
    "ddp of compiled": lambda model: DistributedDataParallel(compiled(model)),
    "compiled ddp": lambda model: compiled(DistributedDataParallel(model)),
    "data parallel": nn.DataParallel,
    "averaged": AveragedModel,
    "checkpointed": checkpoint_wrapper,
    "checkpointed inside": lambda model: inside(model, checkpoint_wrapper),
    "offloaded activations": lambda model: inside(model, offload_wrapper),
    "all of them": lambda model: DistributedDataParallel(
        compiled(inside(model, lambda part: checkpoint_wrapper(compiled(part))))
    ),
    "fsdp2": sharded,
    "fsdp2 of checkpointed": lambda model: sharded(inside(model, checkpoint_wrapper)),
    "accelerate": lambda model: Accelerator(cpu=True).prepare(model),
    "deepspeed": lambda model: FakeEngine(model, "module"),
    "peft": lambda model: FakePeft(FakeTuner(model, "model"), "base_model"),
}


@pytest.fixture(scope="module", autouse=True)
def process_group() -> Iterator[None]:
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.fixture(params=WRAPPERS)
def wrapped(request, monkeypatch) -> nn.Module:
    fakes = {
        "deepspeed": {"deepspeed.runtime.engine": SimpleNamespace(DeepSpeedEngine=FakeEngine)},
        "peft": {
            "peft.peft_model": SimpleNamespace(PeftModel=FakePeft),
            "peft.tuners.tuners_utils": SimpleNamespace(BaseTuner=FakeTuner),
        },
    }
    for name, module in fakes.get(request.param, {}).items():
        monkeypatch.setitem(sys.modules, name, module)
    return WRAPPERS[request.param](build())


def whole(model: nn.Module) -> dict[str, Tensor]:
    """The values of all parameters by their plain names."""
    return {name: tensor.clone() for name, tensor in full_parameters(model, named_parameters(model))}


def test_names_and_scope_are_those_of_the_model_inside(wrapped):
    plain = build()
    assert list(named_parameters(wrapped)) == [name for name, _ in plain.named_parameters()]
    scope = find_scope(wrapped, exclude=HEAD)
    assert scope == find_scope(plain, exclude=HEAD)
    assert scope.names == NAMES
    assert scope.left_out["lm_head.weight"] == r"excluded by '^lm_head\.'"
    assert find_scope(wrapped, include=[r"^encoder\.1\.module\."]).names == ["encoder.1.module.weight"]


@pytest.mark.parametrize(
    "options",
    [{}, {"score": "random", "score_inputs": ScoreInputs(seed=3)}, {"rules": [Rule(r"^encoder\.0", dense=True)]}],
)
def test_masks_made_on_either_are_the_same_and_fit_both(wrapped, options):
    plain = build()
    mask = prune(wrapped, 0.5, among=find_scope(wrapped, exclude=HEAD), **options)
    assert list(mask) == NAMES
    assert mask == prune(plain, 0.5, among=find_scope(plain, exclude=HEAD), **options)
    assert prune(wrapped, 0.3, among=mask).is_subset_of(mask)
    assert Mask.dense(wrapped, NAMES).is_subset_of(Mask.dense(plain, NAMES))
    apply(mask, plain)
    apply(mask, wrapped)
    assert all(torch.equal(found, plain.get_parameter(name)) for name, found in whole(wrapped).items())
    check(mask, wrapped)
    with pytest.raises(MaskError, match=r"not zero: encoder\.0\.weight \(\d+\)"):
        check(Mask({"encoder.0.weight": torch.zeros(6, 6, dtype=torch.bool)}), wrapped)


def test_zeros_hold_while_the_wrapped_model_trains(wrapped):
    mask = prune(wrapped, 0.5, among=find_scope(wrapped, exclude=HEAD))
    optimizer = torch.optim.AdamW(wrapped.parameters(), lr=0.1, weight_decay=0.1)
    with (
        enforce(mask, wrapped, optimizer) as handle,
        MovementAccumulator(wrapped, list(mask), optimizer) as movement,
    ):
        for step in range(2):
            for parameter in wrapped.parameters():  # the gradients of a loss; what the forward does is not the point
                parameter.grad = torch.ones_like(parameter)
            Enforcer(handle.mask, wrapped).mask_gradients()
            optimizer.step()
            optimizer.zero_grad()
            check(handle.mask, wrapped)
            handle.update(prune(wrapped, 0.4 - 0.1 * step, among=handle.mask))
            clear_state(handle.mask, wrapped, optimizer)
    assert list(movement.state_dict()) == NAMES
    values = whole(wrapped)
    assert not any(values[name][~tensor].any() for name, tensor in handle.mask.items())
    assert all(values[name][tensor].any() for name, tensor in handle.mask.items())


def test_hooks_on_a_wrapped_model_see_real_passes():
    mask = prune(build(), 0.5, among=find_scope(build(), exclude=HEAD))
    ddp = DistributedDataParallel(inside(build(), checkpoint_wrapper))
    optimizer = torch.optim.SGD(ddp.parameters(), lr=0.1, momentum=0.9)
    with enforce(mask, ddp, optimizer):
        for _ in range(2):
            ddp(torch.randn(4, 6)).square().sum().backward()
            gradients = {name: parameter.grad for name, parameter in named_parameters(ddp).items()}
            assert not any(gradients[name][~tensor].any() for name, tensor in mask.items())
            optimizer.step()
    check(mask, ddp)


def test_evidence_is_the_same_on_either():
    batches = [torch.randn(4, 6, generator=torch.Generator().manual_seed(0))]

    def loss(model: nn.Module, batch: Tensor) -> Tensor:
        return model(batch).square().sum()

    found = collect(DistributedDataParallel(build()), NAMES, batches, loss=loss)
    expected = collect(build(), NAMES, batches, loss=loss)
    for kind in ("activations", "saliency"):
        assert list(getattr(found, kind)) == NAMES
        assert all(torch.equal(getattr(found, kind)[name], getattr(expected, kind)[name]) for name in NAMES)


@pytest.mark.parametrize("setting", ["include", "exclude"])
def test_an_expression_for_the_prefix_of_a_wrapper_is_refused(setting):
    line = (
        rf"{setting} '\^module\\\.lm_head' matches only with the prefix of a wrapper, as in 'module\.lm_head\.weight'; "
        r"names are those without it: 'lm_head\.weight'"
    )
    with pytest.raises(MaskError, match=line):
        find_scope(nn.DataParallel(build()), **{setting: [r"^module\.lm_head"]})
    assert find_scope(nn.DataParallel(build()), exclude=[r"^(module\.)?lm_head", "^no such name"]).names == NAMES


@pytest.mark.parametrize("use_orig_params", [True, False])
def test_fsdp1_is_refused_unless_its_parameters_are_gathered(use_orig_params):
    plain = build()
    model = FullyShardedDataParallel(build(), use_orig_params=use_orig_params, device_id=torch.device("cpu"))
    mask = prune(plain, 0.5, among=find_scope(plain, exclude=HEAD))
    for action in (
        lambda: find_scope(model),
        lambda: prune(model, 0.5),
        lambda: prune(nn.Sequential(model), 0.5),
        lambda: apply(mask, model),
        lambda: enforce(mask, model, torch.optim.SGD(model.parameters(), lr=0.1)),
    ):
        with pytest.raises(
            MaskError, match=r"wrapped in FullyShardedDataParallel \(FSDP1\).*; use fully_shard \(FSDP2\)"
        ):
            action()
    with FullyShardedDataParallel.summon_full_params(model):
        assert prune(model, 0.5, among=find_scope(model, exclude=HEAD)) == mask
        with pytest.raises(
            MaskError, match=r"a mask cannot be held on FullyShardedDataParallel \(FSDP1\) while it train"
        ):
            Enforcer(mask, model)
        apply(mask, model)
    with FullyShardedDataParallel.summon_full_params(model):
        check(mask, model)


def test_parameters_that_zero_3_took_away_are_refused():
    model = build()
    model.encoder[0].weight.data = torch.empty(0)
    model.encoder[0].weight.ds_id = 0
    with pytest.raises(MaskError, match=r"'encoder\.0\.weight' is partitioned by DeepSpeed ZeRO 3"):
        prune(model, 0.5)


def test_offloaded_weights_are_refused():
    model = cpu_offload(build(), execution_device=torch.device("cpu"))
    assert find_scope(model, exclude=HEAD).names == NAMES
    with pytest.raises(MaskError, match=r"^encoder\.0\.weight, .* on the meta device.*turn off what offloads them$"):
        prune(model, 0.5, among=find_scope(model, exclude=HEAD))


def test_two_parameters_of_one_name_are_refused():
    model = nn.DataParallel(nn.Sequential(nn.Linear(2, 2)))
    model.add_module("0", nn.Linear(2, 2))
    with pytest.raises(MaskError, match=r"'module\.0\.weight' and '0\.weight' are both '0\.weight' without wrappers"):
        find_scope(model)


def test_adapters_of_peft_are_left_out_with_all_they_hold(monkeypatch):
    """Zeros of the base weight are none of base + B·A, and zeros of A and B are none either."""

    class Adapter(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.base_layer = nn.Linear(6, 6)
            self.lora_A = nn.ModuleDict({"default": nn.Linear(6, 2, bias=False)})

    monkeypatch.setitem(sys.modules, "peft.tuners.tuners_utils", SimpleNamespace(BaseTunerLayer=Adapter))
    model = nn.Sequential(nn.Linear(6, 6), Adapter())
    scope = find_scope(model)
    assert scope.names == ["0.weight"]
    reason = "behind an adapter of PEFT; merge_and_unload() gives the weights that are used"
    assert {scope.left_out[f"1.{name}"] for name in ("base_layer.weight", "lora_A.default.weight")} == {reason}
