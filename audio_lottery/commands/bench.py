"""``audio-lottery bench``: a model of one's own on the dense runtimes and on ours."""

import argparse
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from audio_lottery.config import ModelConfig
from audio_lottery.models.load import load_trained
from audio_lottery.report.inference import format_budget, format_comparison, format_macs, format_profile
from audio_lottery.sparse.benchmark import (
    BenchmarkSettings,
    Subject,
    available_cores,
    budget_ours,
    compare_model,
    count_macs,
    noise,
    probe,
    profile_modules,
    runtime_names,
    subjects_of,
)
from audio_lottery.sparse.benchmark.interleaved import torch_threads
from audio_lottery.sparse.benchmark.own import accelerated
from audio_lottery.sparse.benchmark.settings import OWN
from audio_lottery.sparse.precision import PRECISIONS
from audio_lottery.storage import write_json


def main(arguments: list[str]) -> None:
    """Time a model, dense and sparse, on this machine's CPU."""
    parser = argparse.ArgumentParser(
        prog="audio-lottery bench",
        description="Time a (sparse) recogniser on this CPU: torch, ONNX Runtime, OpenVINO and (Whisper) CTranslate2, "
        "which run it as dense, against audio_lottery.sparse.accelerate. docs/benchmark-inference.md explains every "
        "number.",
    )
    parser.add_argument("model", metavar="MODEL", help="folder (also with model.sparse.safetensors) or Hub id")
    add_options(parser, seconds=[10.0])
    options = parser.parse_args(arguments)
    settings = settings_of(options)
    rows = []
    for subject in load_subjects(options.model, settings):
        lengths = settings_for(subject, settings)
        outcome = compare_model(subject, lengths)
        print(format_comparison(outcome))
        rows += [{"subject": subject.name, **row} for row in outcome.rows]
        if options.profile:
            print_profile(subject, {"as it is": subject.model}, lengths)
    if options.json is not None:
        write_json(options.json, rows)


def add_options(parser: argparse.ArgumentParser, seconds: list[float]) -> None:
    """What this command and scripts/benchmark_inference.py have in common."""
    shown = " ".join(f"{value:g}" for value in seconds)
    parser.add_argument("--seconds", type=float, nargs="+", default=seconds, help=f"of audio (default: {shown})")
    parser.add_argument("--repeats", type=int, default=7, help="timed calls of every contestant (default: 7)")
    cores = min(2, available_cores())
    parser.add_argument("--threads", type=int, default=cores, help=f"of every contestant (default: {cores})")
    parser.add_argument(
        "--runtimes", nargs="+", metavar="NAME", default=[], help=f"of {', '.join(runtime_names())} (default: all)"
    )
    parser.add_argument(
        "--precisions", nargs="+", metavar="NAME", default=list(PRECISIONS), help=f"of ours: {', '.join(PRECISIONS)}"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the audio and of the order of turns (default: 0)")
    parser.add_argument("--profile", action="store_true", help="also: where the time goes, and multiply-adds")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows to this file")


def settings_of(options: argparse.Namespace) -> BenchmarkSettings:
    """The parsed options that are settings of the benchmark, checked.

    Raises:
        ConfigError: see `BenchmarkSettings.check`.
    """
    known = {field.name for field in fields(BenchmarkSettings)}
    given: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in vars(options).items()
        if name in known
    }
    settings = BenchmarkSettings(**given)
    settings.check()
    return settings


def settings_for(subject: Subject, settings: BenchmarkSettings) -> BenchmarkSettings:
    """The settings with the lengths that the subject is for."""
    return settings if subject.seconds is None else replace(settings, seconds=subject.seconds)


def load_subjects(source: str, settings: BenchmarkSettings) -> list[Subject]:
    """The model in a folder or on the Hub, whole or in parts, and noise that goes through its own feature extractor.

    Raises:
        ModelError: it cannot be loaded.
    """
    backbone = load_trained(ModelConfig(init=source))
    name = backbone.module.main_input_name

    def make_inputs(seconds: float) -> torch.Tensor:
        return backbone.features([noise(seconds, settings.seed).numpy()])[name]

    found = subjects_of(source, backbone.module.eval(), backbone.processor, make_inputs, settings.seconds)
    # a part that nobody was asked to run is left out; where that is all of them, the comparison says so
    return [subject for subject in found if _has_contestants(subject, settings)] or found


def _has_contestants(subject: Subject, settings: BenchmarkSettings) -> bool:
    if not settings.runtimes or subject.runtimes is None:
        return True
    return bool({OWN, *(runtime.name for runtime in subject.runtimes)} & set(settings.runtimes))


def print_profile(subject: Subject, sparse: Mapping[str, nn.Module], settings: BenchmarkSettings) -> None:
    """Print where the time goes in torch float32 and in ours, and multiply-adds.

    Args:
        subject: its model is the one that torch is profiled with.
        sparse: title → model with zeros, accelerated here.
        settings: the first of its lengths that is 10 s, or else the first, is profiled.
    """
    seconds = 10.0 if 10.0 in settings.seconds else settings.seconds[0]
    inputs = subject.make_inputs(seconds)
    with torch_threads(settings.threads):
        shares = profile_modules(subject.logits(subject.model), inputs, settings.repeats)
        print("\n" + format_profile(shares, f"torch fp32, {seconds:g} s of audio: exclusive time by kind of module"))
        peaks = {precision: probe(precision) for precision in settings.precisions}
        for title, model in sparse.items():
            for precision in settings.precisions:
                own = budget_ours(subject.profiled(accelerated(model, precision)), inputs, settings.repeats)
                if own is not None:
                    words = f"audio_lottery {precision}, {title}, {seconds:g} s of audio"
                    print("\n" + format_budget(own, peaks[precision], words))
        counts = {title: count_macs(subject.logits(model), inputs) for title, model in sparse.items()}
    print("\n" + format_macs(counts, seconds))
