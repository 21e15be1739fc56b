"""A mask under transformers' own Trainer: a tiny CTC model, real training, real checkpoints."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import Trainer, TrainerCallback, TrainingArguments, Wav2Vec2Config, Wav2Vec2ForCTC

from audio_lottery import pruning
from audio_lottery.errors import MaskError
from audio_lottery.pruning import Mask, find_scope, global_magnitude
from audio_lottery.pruning.callback import MASK_FILE, MaskCallback

SIZE = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24, "vocab_size": 8}
FRONT = {"conv_dim": (8, 8), "conv_kernel": (10, 4), "conv_stride": (5, 4), "num_conv_pos_embeddings": 4}


def build() -> Wav2Vec2ForCTC:
    torch.manual_seed(0)
    config = Wav2Vec2Config(
        **SIZE,
        **FRONT,
        num_conv_pos_embedding_groups=2,
        ctc_loss_reduction="mean",
        ctc_zero_infinity=True,
        layerdrop=0.0,
    )
    config.apply_spec_augment = False
    return Wav2Vec2ForCTC(config)


def utterances(count: int = 12) -> list[dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    return [
        {
            "input_values": torch.randn(400, generator=generator),
            "labels": torch.randint(1, 8, (4,), generator=generator),
        }
        for _ in range(count)
    ]


def ticket(model: nn.Module, density: float = 0.3) -> Mask:
    names = find_scope(model, exclude=[r"^lm_head\."]).names
    return global_magnitude(model, density, among=Mask.dense(model, names))


def arguments(folder: Path, **options) -> TrainingArguments:
    defaults = {
        "per_device_train_batch_size": 2,
        "max_steps": 6,
        "learning_rate": 0.01,
        "weight_decay": 0.1,
        "lr_scheduler_type": "constant",
        "save_steps": 2,
        "eval_strategy": "steps",
        "eval_steps": 2,
        "report_to": [],
        "disable_tqdm": True,
        "use_cpu": True,
        "dataloader_pin_memory": False,
    }
    return TrainingArguments(output_dir=str(folder), **{**defaults, **options})


def trainer(model: nn.Module, folder: Path, *callbacks: TrainerCallback, **options) -> Trainer:
    data = utterances()
    return Trainer(
        model, arguments(folder, **options), train_dataset=data, eval_dataset=data[:4], callbacks=list(callbacks)
    )


def zeros_are_exact(mask: Mask, file: Path) -> bool:
    saved = load_file(file)
    return all(not saved[name][~tensor].any() and bool(saved[name][tensor].all()) for name, tensor in mask.items())


@pytest.mark.parametrize(
    "options",
    [{}, {"gradient_accumulation_steps": 3}, {"bf16": True}, {"optim": "adafactor"}, {"save_strategy": "epoch"}],
    ids=str,
)
def test_every_checkpoint_has_exact_zeros_and_its_mask(tmp_path, options):
    model = build()
    mask = ticket(model)
    trainer(model, tmp_path, MaskCallback(mask), **options).train()
    pruning.check(mask, model)
    checkpoints = sorted(tmp_path.glob("checkpoint-*"))
    assert checkpoints
    for checkpoint in checkpoints:
        assert zeros_are_exact(mask, checkpoint / "model.safetensors")
        assert Mask.load(checkpoint / MASK_FILE) == mask
    reloaded = Wav2Vec2ForCTC.from_pretrained(checkpoints[-1])
    pruning.check(mask, reloaded)


def test_the_clipped_norm_is_that_of_the_survivors(tmp_path):
    norms = []

    class Norms(TrainerCallback):
        def on_pre_optimizer_step(self, args, state, control, model, **kwargs):
            assert not any(bool(model.get_parameter(name).grad[~tensor].any()) for name, tensor in mask.items())
            norms.append(nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None]))

    model = build()
    mask = ticket(model, 0.1)
    trainer(model, tmp_path, MaskCallback(mask), Norms(), gradient_accumulation_steps=2, max_grad_norm=0.01).train()
    assert len(norms) == 6
    # Clipping before masking would leave norms below the limit: most of the norm lay in pruned weights.
    torch.testing.assert_close(torch.stack(norms), torch.full((6,), 0.01), rtol=1e-3, atol=0)


def test_resume_equals_uninterrupted(tmp_path):
    model = build()
    mask = ticket(model)
    trainer(model, tmp_path / "whole", MaskCallback(mask), gradient_accumulation_steps=2).train()

    first = build()
    trainer(first, tmp_path / "parts", MaskCallback(mask), gradient_accumulation_steps=2, max_steps=4).train()
    second = build()
    resumed = trainer(second, tmp_path / "parts", MaskCallback(mask), gradient_accumulation_steps=2)
    resumed.train(resume_from_checkpoint=True)
    pruning.check(mask, second)
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, second.get_parameter(name)), name


def test_a_checkpoint_of_another_mask_is_refused(tmp_path):
    model = build()
    trainer(model, tmp_path, MaskCallback(ticket(model)), max_steps=2).train()
    other = ticket(build(), 0.2)
    with pytest.raises(MaskError, match=r"is another mask than the one given; resume with that mask"):
        trainer(build(), tmp_path, MaskCallback(other), max_steps=4).train(resume_from_checkpoint=True)
    (tmp_path / "checkpoint-2" / MASK_FILE).unlink()
    with pytest.raises(
        MaskError, match=r"the checkpoint to resume from was trained with another mask \(weights outside"
    ):
        trainer(build(), tmp_path, MaskCallback(other), max_steps=4).train(resume_from_checkpoint=True)


class Vandal(TrainerCallback):
    """Revives one pruned weight after the third step."""

    def __init__(self, mask: Mask) -> None:
        self.mask = mask

    def on_step_end(self, args, state, control, model, **kwargs):
        if state.global_step == 3:
            name = next(iter(self.mask))
            with torch.no_grad():
                model.get_parameter(name)[~self.mask[name]] = 1.0


@pytest.mark.parametrize(("evaluate", "save"), [("steps", "no"), ("no", "steps")])
def test_a_revived_weight_fails_the_run_before_it_is_evaluated_or_saved(tmp_path, evaluate, save):
    model = build()
    mask = ticket(model)
    options = {"eval_strategy": evaluate, "save_strategy": save, "eval_steps": 3, "save_steps": 3}
    broken = trainer(model, tmp_path, Vandal(mask), MaskCallback(mask), **options)
    with pytest.raises(MaskError, match=r"weights outside the mask are not zero"):
        broken.train()
    assert not list(tmp_path.glob("checkpoint-*"))
    assert not any("eval_loss" in entry for entry in broken.state.log_history)


def test_the_next_training_after_a_failed_one_works(tmp_path):
    model = build()
    mask = ticket(model)
    callback = MaskCallback(mask)
    vandal = Vandal(mask)
    broken = trainer(model, tmp_path, vandal, callback, eval_steps=3)
    with pytest.raises(MaskError):
        broken.train()
    broken.remove_callback(vandal)
    broken.train()
    pruning.check(mask, model)
    assert not any(p._post_accumulate_grad_hooks for p in model.parameters() if p._post_accumulate_grad_hooks)


def gradual(model: nn.Module, asked: list[int]):
    """From dense to 40 % in three stages, by the weights as they are at steps 0, 2 and 4."""
    names = find_scope(model, exclude=[r"^lm_head\."]).names
    state = {"mask": Mask.dense(model, names)}

    def schedule(step: int) -> Mask | None:
        asked.append(step)
        if step not in (2, 4):
            return None
        state["mask"] = global_magnitude(model, 0.7 if step == 2 else 0.4, among=state["mask"])
        return state["mask"]

    return schedule


def test_a_schedule_prunes_while_training(tmp_path):
    model, asked = build(), []
    callback = MaskCallback(schedule=gradual(model, asked))
    assert callback.mask is None
    trainer(model, tmp_path, callback, save_steps=1).train()
    assert asked == [0, 1, 2, 3, 4, 5, 6]
    assert callback.mask is not None
    assert callback.mask.density() == pytest.approx(0.4, abs=1e-3)
    pruning.check(callback.mask, model)
    assert not (tmp_path / "checkpoint-1" / MASK_FILE).exists()
    early, late = (Mask.load(tmp_path / f"checkpoint-{step}" / MASK_FILE) for step in (2, 4))
    assert early.density() == pytest.approx(0.7, abs=1e-3)
    assert late.is_subset_of(early)
    assert late == callback.mask
    assert zeros_are_exact(early, tmp_path / "checkpoint-3" / "model.safetensors")


@pytest.mark.parametrize("at", [1, 3])
def test_a_schedule_resumes_with_the_mask_of_the_checkpoint(tmp_path, at):
    model = build()
    whole = MaskCallback(schedule=gradual(model, []))
    trainer(model, tmp_path, whole, save_steps=1).train()

    second, asked = build(), []
    callback = MaskCallback(schedule=gradual(second, asked))
    trainer(second, tmp_path, callback, save_steps=1).train(resume_from_checkpoint=str(tmp_path / f"checkpoint-{at}"))
    assert asked == list(range(at + 1, 7))
    assert callback.mask == whole.mask
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, second.get_parameter(name)), name


def test_a_schedule_cannot_resume_without_its_mask(tmp_path):
    model = build()
    trainer(model, tmp_path, MaskCallback(schedule=gradual(model, [])), max_steps=2, save_steps=2).train()
    (tmp_path / "checkpoint-2" / MASK_FILE).unlink()
    model = build()
    with pytest.raises(MaskError, match=r"pruning_mask\.safetensors is missing: the mask at step 2 is not known"):
        trainer(model, tmp_path, MaskCallback(schedule=gradual(model, []))).train(resume_from_checkpoint=True)


def test_the_best_model_of_a_schedule_must_have_the_final_mask(tmp_path):
    model = build()
    options = {"load_best_model_at_end": True, "metric_for_best_model": "eval_runtime", "eval_strategy": "steps"}
    worse = trainer(model, tmp_path, MaskCallback(schedule=gradual(model, [])), save_steps=2, **options)
    worse._determine_best_metric = lambda metrics, trial: _first_is_best(worse)
    with pytest.raises(MaskError, match=r"load_best_model_at_end can bring back a denser one"):
        worse.train()


def _first_is_best(trainer: Trainer) -> bool:
    if trainer.state.best_model_checkpoint is None:
        trainer.state.best_model_checkpoint = str(Path(trainer.args.output_dir) / "checkpoint-2")
    return False


def test_neither_mask_nor_schedule_is_refused():
    with pytest.raises(MaskError, match="needs a mask, or a schedule"):
        MaskCallback()
