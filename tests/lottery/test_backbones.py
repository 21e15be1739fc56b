"""Methods × patterns × backbones: what holds for wav2vec2 (`test_methods`) holds for every family."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCTC, AutoModelForRNNT, AutoModelForSpeechSeq2Seq, AutoModelForTDT

from audio_lottery.config import DecoderConfig, ModelConfig, PruningConfig, SearchConfig
from audio_lottery.errors import ConfigError
from audio_lottery.evaluation.evaluate import evaluate_model
from audio_lottery.lottery.search import search
from audio_lottery.lottery.select import select
from audio_lottery.models.load import FAMILIES, family_of, load_folder
from audio_lottery.pruning import exact_count
from audio_lottery.sparse.format import load, save
from audio_lottery.storage import read_json
from audio_lottery.training import loop
from tests.lottery.test_methods import HALVES, METHODS, Interrupted, mask, saving_often, settings, weights
from tests.models.families import WRITER

TINY = {
    "conformer": ModelConfig(
        init="conformer-mini",
        overrides={
            "encoder_config": {
                "hidden_size": 32,
                "num_hidden_layers": 1,
                "num_attention_heads": 2,
                "intermediate_size": 48,
                "subsampling_conv_channels": 8,
            }
        },
    ),
    "cnn_lstm": ModelConfig(
        init="cnn-lstm-mini", overrides={"conv_channels": 4, "hidden_size": 24, "num_hidden_layers": 1}
    ),
    "transducer": ModelConfig(
        init="rnnt-mini",
        overrides={"hidden_size": 24, "num_hidden_layers": 2, "time_reduction": [2, 3], "decoder_hidden_size": 16},
    ),
    "parakeet_transducer": ModelConfig(
        init="parakeet-tdt-mini",
        overrides={
            "decoder_hidden_size": 16,
            "encoder_config": {
                "hidden_size": 32,
                "num_hidden_layers": 1,
                "num_attention_heads": 2,
                "intermediate_size": 48,
                "subsampling_factor": 8,
                "subsampling_conv_channels": 8,
            },
        },
    ),
    "whisper": ModelConfig(
        init="whisper-mini",
        overrides=WRITER | {"num_mel_bins": 16, "max_source_positions": 125, "max_target_positions": 16},
    ),
}
# One of each way to make a mask, to hold it and to start a round; all patterns that fit the layers.
SEARCHED: dict[str, PruningConfig] = {
    name: METHODS[name]
    for name in (
        "imp",
        "imp, late rewinding",
        "imp, lamp",
        "imp, taylor",
        "imp, movement",
        "imp, wanda, uniform",
        "omp, obs, reconstructed",
        "imp, blocks 1x4",
        "imp, rows",
        "omp",
        "gmp",
        "parp",
    )
} | {"omp, 16x1": PruningConfig(method="omp", pattern="block:16x1", targets=HALVES)}
RESUMED = ["imp", "imp, late rewinding", "imp, movement", "gmp", "parp"]
# What models that write by themselves do in a way of their own: loss, gradients, activations, patterns of LSTMs.
WRITERS = {
    "transducer": (
        ["imp", "imp, taylor", "imp, wanda, uniform", "omp, obs, reconstructed", "imp, blocks 1x4", "gmp"],
        ["imp", "gmp"],
    ),
    "parakeet_transducer": (["imp", "gmp"], ["imp"]),
    "whisper": (["imp", "imp, wanda, uniform", "gmp"], ["imp"]),
}
CELLS = [(family, name) for family in TINY for name in WRITERS.get(family, (SEARCHED, RESUMED))[0]]
RESUMED_CELLS = [(family, name) for family in TINY for name in WRITERS.get(family, (SEARCHED, RESUMED))[1]]
AUTO = {
    "transducer": AutoModelForRNNT,
    "parakeet_transducer": AutoModelForTDT,
    "whisper": AutoModelForSpeechSeq2Seq,
}


@pytest.fixture(scope="module")
def runs(tiny_corpus, tmp_path_factory):
    """Finished searches by family and method, made when they are asked for."""
    folder, done = tmp_path_factory.mktemp("runs"), {}

    def get(family: str, name: str) -> Path:
        if (family, name) not in done:
            done[family, name] = folder / str(len(done))
            search(settings(tiny_corpus, done[family, name], SEARCHED[name], model=TINY[family]))
        return done[family, name]

    return get


def test_every_family_is_in_the_matrix():
    assert FAMILIES.keys() == {"wav2vec2", *TINY}


@pytest.mark.parametrize(("family", "name"), CELLS)
def test_exact_density_and_exact_zeros(runs, family, name):
    run, method = runs(family, name), SEARCHED[name]
    for number in (1, 2):
        found, saved = mask(run, number), weights(run, f"round_{number:02d}")
        density = method.targets[number - 1] if method.targets else 0.8**number
        if method.pattern == "unstructured":
            assert found.kept == exact_count(density, found.prunable)
        else:
            assert found.density() == pytest.approx(density, abs=0.05)
        for tensor, kept in found.items():
            assert not saved[tensor][~kept].any(), tensor
            assert kept.any(), f"{tensor} has lost all its weights"
        assert read_json(run / f"round_{number:02d}" / "metrics.json")["mask_sha256"] == found.sha256()
    scope = read_json(run / "scope.json")
    assert not any("head" in tensor for tensor in scope["prunable"]), "the output layer stays dense"


@pytest.mark.parametrize(("family", "name"), RESUMED_CELLS)
def test_interrupted_and_continued_is_as_uninterrupted(runs, name, family, tiny_corpus, tmp_path, monkeypatch):
    reference = runs(family, name)
    config = saving_often(settings(tiny_corpus, tmp_path / "run", SEARCHED[name], model=TINY[family]))
    saves, save = {"count": 0}, loop.save_checkpoint

    def save_then_stop(*arguments):
        save(*arguments)
        saves["count"] += 1
        if saves["count"] in (2, 5):
            raise Interrupted

    monkeypatch.setattr(loop, "save_checkpoint", save_then_stop)
    for _ in range(2):
        with pytest.raises(Interrupted):
            search(config)
    search(config)
    for number in range(3):
        assert mask(tmp_path / "run", number) == mask(reference, number)
        path = Path(f"round_{number:02d}") / "model.safetensors"
        assert (tmp_path / "run" / path).read_bytes() == (reference / path).read_bytes(), path


@pytest.mark.parametrize("family", TINY)
def test_a_round_loads_with_transformers(runs, family):
    folder = runs(family, "imp") / "round_02"
    assert family_of(folder) is FAMILIES[family]
    plain, ours = AUTO.get(family, AutoModelForCTC).from_pretrained(folder).eval(), load_folder(folder)
    inputs = ours.features([torch.randn(9_000, generator=torch.Generator().manual_seed(0)).numpy()])
    if family in AUTO:
        inputs["decoder_input_ids"] = torch.tensor([[0, 3, 4]])
    with torch.no_grad():
        assert torch.equal(plain(**inputs).logits, ours.module.eval()(**inputs).logits)


def test_a_ticket_is_transferred_into_another_window(runs, tiny_corpus, tmp_path):
    run = runs("whisper", "imp")
    model = ModelConfig(init=str(run / "round_00"), window=2.4)
    ticket = PruningConfig(ticket=str(run))
    search(settings(tiny_corpus, tmp_path / "run", ticket, model=model, search=SearchConfig(rounds=1)))
    assert mask(tmp_path / "run", 1) == mask(run, 1)
    config = read_json(tmp_path / "run" / "round_01" / "config.json")
    assert (config["window_seconds"], config["max_source_positions"]) == (2.4, 125)


@pytest.mark.parametrize("family", AUTO)
def test_a_model_that_writes_by_itself_is_packed_chosen_and_evaluated(runs, family, tiny_corpus, tmp_path):
    run = runs(family, "imp")
    assert select([run]).to_dict()
    trained = load_folder(run / "round_02")
    save(trained.module, tmp_path / "packed", processor=trained.processor)
    again, packed = load_folder(tmp_path / "packed"), load(tmp_path / "packed")
    for name, tensor in trained.module.state_dict().items():
        assert torch.equal(tensor, again.module.state_dict()[name]), name
        assert torch.equal(tensor, packed.state_dict()[name]), name
    config = settings(tiny_corpus, tmp_path / "unused", SEARCHED["imp"])
    [outcome] = evaluate_model(str(tmp_path / "packed"), config).values()
    measured = read_json(run / "round_02" / "metrics.json")["test"]["clean"]
    assert outcome.result["wer"] == measured["wer"]
    config.evaluation.decoder = DecoderConfig(kind="beam", beam_size=2)
    if family != "parakeet_transducer":
        [outcome] = evaluate_model(str(tmp_path / "packed"), config).values()
        assert outcome.result["decoder"] == "beam(beam_size=2)"
    config.evaluation.decoder.lm = "lm.arpa"
    with pytest.raises(ConfigError, match="a language model or lexicon in beam search needs CTC outputs, which"):
        evaluate_model(str(tmp_path / "packed"), config)
