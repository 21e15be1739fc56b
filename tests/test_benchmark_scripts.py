"""Benchmarks still fit the package: they call it in ways that no type checker sees. Their figures are not looked at."""

import sys

import pytest
from transformers import Wav2Vec2Config, Wav2Vec2ForCTC

from audio_lottery.pruning import Mask
from audio_lottery.settings import parse_config
from tests.conftest import TINY_MODEL
from tests.script_module import SCRIPTS, script


@pytest.mark.parametrize("name", sorted(path.stem for path in SCRIPTS.glob("*.py")))
def test_every_script_imports_what_there_is(name):
    assert script(name).__doc__


def test_a_step_is_taken_apart(tiny_config_file):
    profile = script("profile_step")
    watch = profile.measure(parse_config(["--config", str(tiny_config_file)]), 1)
    assert {"step", profile.BATCH, profile.LOSS, profile.BACKWARD, profile.OPTIMISER} <= {*watch.seconds}
    assert watch.profiler.key_averages()


@pytest.mark.parametrize("name", script("benchmark_pruning").METHODS)
def test_every_mask_of_the_benchmark_is_made(name):
    benchmark = script("benchmark_pruning")
    shape = TINY_MODEL | {"conv_stride": [5, 2, 2, 2], "conv_kernel": [10, 3, 3, 2], "num_feat_extract_layers": 4}
    model = Wav2Vec2ForCTC(Wav2Vec2Config(**shape))
    made = benchmark.task(name, model)()
    density = {"2:4": 0.5}.get(name, benchmark.DENSITY)
    if name == benchmark.BASELINE:
        assert benchmark.torch_masks(model)
    else:
        assert isinstance(made, Mask)
        assert made.density() == pytest.approx(density, abs=0.05)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("benchmark_enforcement", "--tiny --repeats 1 --seconds 1"),
        ("benchmark_loading", "--utterances 4 --repeats 1 --seconds 20"),
    ],
)
def test_a_benchmark_comes_to_its_end(name, arguments, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [name, *arguments.split()])
    script(name).main()
    assert "%" in (out := capsys.readouterr().out) or "real time" in out
