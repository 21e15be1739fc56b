"""A teacher: what it says counts as it should, it disturbs nothing, and what it cannot teach is refused by name."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from audio_lottery.config import AugmentConfig, DistillConfig, ModelConfig, SpecAugmentConfig
from audio_lottery.data.noise import make_augmenter
from audio_lottery.errors import ConfigError, ModelError
from audio_lottery.models.base import Backbone, Predictions
from audio_lottery.models.load import load_backbone
from audio_lottery.models.loss import divergence
from audio_lottery.training.loop import Trainer
from audio_lottery.training.speech import TrainingSpeech
from audio_lottery.training.teacher import Teacher
from tests.conftest import TINY_MODEL
from tests.lottery.test_backbones import TINY
from tests.training.test_loop import CONFIG, make_trainer, run_until_killed, same, weights

WAVEFORM = ModelConfig(init="w2v2-mini", overrides=TINY_MODEL)
FAMILIES = {"wav2vec2": WAVEFORM, **TINY}
# One hidden layer that has a position for every output frame.
LAYERS = {
    "wav2vec2": "wav2vec2.encoder.layers.0",
    "conformer": "encoder.layers.0",
    "cnn_lstm": r".*lstms?\.0",
    "transducer": "encoder.layers.1",
    "parakeet_transducer": "encoder.layers.0",
    "whisper": r"model\.encoder\.layers\.0",
}
LABELS = [torch.tensor([5, 6, 6, 7]), torch.tensor([8])]


def speech(backbone: Backbone) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Two utterances of noise, one of them padded."""
    generator = torch.Generator().manual_seed(0)
    audio = [torch.randn(count, generator=generator).numpy() for count in (16_000, 11_000)]
    return backbone.features(audio), torch.tensor([16_000, 11_000])


def taught(root: Path, folder: Path, distill: DistillConfig, augment: AugmentConfig | None = None) -> Trainer:
    """`make_trainer` with a teacher: another draw of the same model."""
    config = replace(CONFIG, distill=distill, augment=augment or AugmentConfig())
    trainer = make_trainer(root, folder, config)
    data = trainer.speech.data
    change, quiet = (
        make_augmenter(one, root, 11, data.manifest) or as_recorded
        for one in (config.augment, replace(config.augment, noise=(), noise_prob=0.0))
    )
    teacher = Teacher(load_backbone(WAVEFORM, 2), distill, "another", quiet if distill.clean_teacher else None)
    trainer.speech = TrainingSpeech(
        data, trainer.backbone, config, 11, trainer.accelerator, augment=change, teacher=teacher
    )
    return trainer


def as_recorded(audio, row, epoch):
    return audio


def test_divergence_as_the_formula_says():
    generator = torch.Generator().manual_seed(1)
    here, there = torch.randn(2, 2, 5, 7, generator=generator).unbind(0)
    points = torch.tensor([5, 3])
    for parts, temperature in (((), 1.0), ((), 3.0), ((4, 3), 2.0)):
        expected = []
        for row, count in enumerate(points.tolist()):
            total = 0.0
            for one, other in zip(here[row].split(parts or (7,), -1), there[row].split(parts or (7,), -1), strict=True):
                p, q = ((x[:count].double() / temperature).softmax(-1) for x in (other, one))
                total += float((p * (p / q).log()).sum()) * temperature**2
            expected.append(total)
        found = divergence(*(Predictions(x, points, None, parts) for x in (here, there)), temperature)
        assert found.tolist() == pytest.approx(expected, rel=1e-5)
    with pytest.raises(ModelError, match=r"do not predict the same: outputs \[2, 4, 7\] and \[2, 5, 7\]"):
        divergence(Predictions(here, points, None), Predictions(there[:, :4], points, None))


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_teaches_and_is_taught(family):
    student, other = (load_backbone(FAMILIES[family], seed) for seed in (1, 2))
    inputs, samples = speech(student)
    student.module.eval()
    plain = student.loss(inputs, samples, LABELS)

    def losses(backbone: Backbone, **settings) -> torch.Tensor:
        distill = DistillConfig("x", hidden_layers=(LAYERS[family],), **settings)
        return Teacher(backbone, distill, "x").losses(student, inputs, samples, LABELS)

    own = load_backbone(FAMILIES[family], 1)
    assert torch.equal(losses(own, weight=0.0), plain)
    alike = losses(own, weight=1.0, hidden_weight=1.0)
    assert torch.allclose(alike, plain, rtol=1e-4), "a model learns nothing from itself"
    divergences = losses(other, label_weight=0.0)
    assert (divergences > 1e-3).all()
    assert torch.allclose(losses(other, label_weight=0.0, weight=2.0), 2 * divergences)
    squares = losses(other, label_weight=0.0, weight=0.0, hidden_weight=1.0)
    assert (squares > 1e-4).all()
    # an utterance counts as it would alone: neither padding nor its neighbours matter
    alone = student.features([torch.randn(16_000, generator=torch.Generator().manual_seed(0)).numpy()])
    single = Teacher(other, DistillConfig("x", label_weight=0.0), "x").losses(student, alone, samples[:1], LABELS[:1])
    assert torch.allclose(single, divergences[:1], rtol=1e-3)
    divergences.sum().backward()
    assert any(parameter.grad is not None and parameter.grad.any() for parameter in student.module.parameters())
    assert not any(parameter.requires_grad or parameter.grad is not None for parameter in other.module.parameters())


def test_a_teacher_of_no_weight_changes_no_bit(tiny_corpus, tmp_path):
    """The student has dropout and SpecAugment; the teacher's forward pass moves no generator."""
    plain = make_trainer(tiny_corpus, tmp_path / "plain")
    taught_nothing = taught(tiny_corpus, tmp_path / "taught", DistillConfig("another", weight=0.0))
    reports = plain.run(), taught_nothing.run()
    assert same(weights(plain), weights(taught_nothing))
    assert [report.teacher for report in reports] == [None, "another"]
    assert reports[0].audio_seconds == reports[1].audio_seconds > 0


def test_a_taught_training_resumes_bit_for_bit(tiny_corpus, tmp_path, monkeypatch):
    distill = DistillConfig(
        "another", hidden_weight=0.5, hidden_layers=(LAYERS["wav2vec2"],), clean_teacher=True, temperature=2.0
    )
    noisy = AugmentConfig(noise=("white",), noise_prob=1.0, speeds=(0.9, 1.1))
    whole = taught(tiny_corpus, tmp_path / "whole", distill, noisy)
    expected = whole.run()
    run_until_killed(taught(tiny_corpus, tmp_path / "stopped", distill, noisy), 3, monkeypatch)
    resumed = taught(tiny_corpus, tmp_path / "stopped", distill, noisy)
    assert replace(resumed.run(), seconds=0) == replace(expected, seconds=0)
    assert same(weights(resumed), weights(whole))


def test_a_clean_teacher_hears_no_noise_and_no_masks(tiny_corpus, tmp_path):
    augment = AugmentConfig(noise=("white",), noise_prob=1.0, snr_db=(0.0, 0.0))
    noisy, clean = (
        next(taught(tiny_corpus, tmp_path, settings, augment).speech.from_position(0))
        for settings in (DistillConfig("another"), DistillConfig("another", clean_teacher=True))
    )
    assert "heard" not in noisy, "the same speech is read once"
    plain = next(make_trainer(tiny_corpus, tmp_path).speech.from_position(0))
    assert torch.equal(clean["inputs"]["input_values"], noisy["inputs"]["input_values"])
    assert torch.equal(clean["heard"]["input_values"], plain["inputs"]["input_values"])
    assert not torch.equal(clean["heard"]["input_values"], clean["inputs"]["input_values"])

    trainer = make_trainer(tiny_corpus, tmp_path)
    student, masked = (load_backbone(TINY["conformer"], 1) for _ in range(2))
    config = replace(CONFIG, specaugment=SpecAugmentConfig(time_prob=0.5, time_length=4))
    teacher = Teacher(masked, DistillConfig("x"), "x")
    data, accelerator = trainer.speech.data, trainer.accelerator
    batch = next(TrainingSpeech(data, student, config, 1, accelerator, teacher=teacher).from_position(0))
    hidden = (batch["heard"]["input_features"] != 0) & (batch["inputs"]["input_features"] == 0)
    assert hidden.any()


OTHER_FIELDS = TINY_MODEL | {"hidden_size": 16}
REFUSED = {
    "vocabulary": (
        replace(WAVEFORM, characters="abc"),
        {},
        r"teacher T: it has another vocabulary than the model \(\d+ and \d+ tokens; tokens of only one of them: ', d",
    ),
    "frame rate": (
        replace(WAVEFORM, overrides=TINY_MODEL | {"conv_stride": [8, 5, 4, 4]}),
        {},
        r"teacher T: it has another frame rate than the model: 24\.\d+ and 49\.\d+ frames a second",
    ),
    "outputs": (TINY["transducer"], {}, r"predicts steps of a path \(transducer\) and the model frames \(wav2vec2\)"),
    "no such layer": (
        WAVEFORM,
        {"hidden_weight": 1.0, "hidden_layers": ("encoder.layer.0",)},
        r"hidden_layers: 'encoder\.layer\.0' is the name of no module of Wav2Vec2ForCTC; there are wav2vec2, ",
    ),
    "a layer that the teacher lacks": (
        WAVEFORM,
        {"hidden_weight": 1.0, "hidden_layers": (r"wav2vec2\.encoder\.layers\.\d",)},
        r"hidden_layers: the teacher T has no module wav2vec2\.encoder\.layers\.1; name layers that both",
    ),
    "another size": (
        replace(WAVEFORM, overrides=OTHER_FIELDS),
        {"hidden_weight": 1.0, "hidden_layers": ("wav2vec2.encoder.layers.0",)},
        r"'wav2vec2\.encoder\.layers\.0' puts out \[\d+, \d+, 32\] in the model and \[\d+, \d+, 16\] in the teacher",
    ),
    "a container, which puts out nothing": (
        WAVEFORM,
        {"hidden_weight": 1.0, "hidden_layers": (r"wav2vec2\.encoder\.layers",)},
        r"'wav2vec2\.encoder\.layers' puts out nothing in the model and nothing in the teacher",
    ),
    "another rate inside": (
        WAVEFORM,
        {"hidden_weight": 1.0, "hidden_layers": (r"wav2vec2\.feature_extractor\.conv_layers\.0\.layer_norm",)},
        r"conv_layers\.0\.layer_norm' has \d+ positions for \d+ output frames",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_teach_is_refused_by_name(tiny_corpus, tmp_path, name):
    source, settings, message = REFUSED[name]
    trainer = make_trainer(tiny_corpus, tmp_path, mask=False, num_hidden_layers=2)
    teacher = Teacher(load_backbone(source, 1), DistillConfig("T", **settings), "T")
    if name == "a layer that the teacher lacks":
        assert "wav2vec2.encoder.layers.1" in dict(trainer.backbone.module.named_modules())
    with pytest.raises(ConfigError, match=message):
        teacher.check(trainer.backbone, next(trainer.speech.from_position(0)))


def test_a_family_without_predictions_says_so(tiny_corpus, tmp_path, monkeypatch):
    trainer = make_trainer(tiny_corpus, tmp_path, mask=False)
    monkeypatch.setattr(type(trainer.backbone), "predicts", "")
    teacher = Teacher(load_backbone(WAVEFORM, 1), DistillConfig("T"), "T")
    with pytest.raises(ConfigError, match="the teacher is of the family wav2vec2, which can neither teach nor"):
        teacher.check(trainer.backbone, next(trainer.speech.from_position(0)))
    with pytest.raises(ModelError, match="family wav2vec2 can neither teach nor be taught"):
        Backbone.predict(trainer.backbone, {}, torch.zeros(1), [])


def test_hidden_states_as_the_formula_says():
    student, other = (load_backbone(WAVEFORM, seed) for seed in (1, 2))
    inputs, samples = speech(student)
    student.module.eval()
    settings = DistillConfig("x", label_weight=0.0, hidden_weight=2.0, weight=0.0, hidden_layers=(LAYERS["wav2vec2"],))
    found = Teacher(other, settings, "x").losses(student, inputs, samples, LABELS)
    states = []
    for backbone in (student, other):
        layer = backbone.module.wav2vec2.encoder.layers[0]
        layer.register_forward_hook(lambda module, arguments, output: states.append(output))
        backbone.module(**inputs)
    here, there = (state[0] if isinstance(state, tuple) else state for state in states)
    for row, count in enumerate(student.frames(samples).tolist()):
        squares = F.mse_loss(here[row, :count], there[row, :count], reduction="sum") / here.shape[-1]
        assert found[row].item() == pytest.approx(2 * squares.item(), rel=1e-4)
