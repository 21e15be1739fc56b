"""How fast a sparse recogniser is, beside the dense runtimes that a user could pick instead.

``compare_sparsities`` prunes one model to several sparsities and patterns, ``compare_model`` takes a model as it is;
``model_break_even`` reads off their rows from where on sparsity pays, ``break_even`` measures it of single layers;
``profile_modules`` and ``count_macs`` say where the time goes.
docs/benchmark-inference.md explains the method.
"""

from audio_lottery.sparse.benchmark.break_even import BreakEven, break_even
from audio_lottery.sparse.benchmark.compare import Outcome, compare_model, compare_sparsities
from audio_lottery.sparse.benchmark.crossings import Crossings, ModelBreakEven, model_break_even
from audio_lottery.sparse.benchmark.machine import Machine, probe
from audio_lottery.sparse.benchmark.macs import Macs, count_macs
from audio_lottery.sparse.benchmark.profile import PartBudget, budget_ours, profile_modules
from audio_lottery.sparse.benchmark.settings import PATTERNS, BenchmarkSettings, available_cores, runtime_names
from audio_lottery.sparse.benchmark.subject import Subject, noise, wav2vec2_base
from audio_lottery.sparse.benchmark.whisper_contestants import subjects_of

__all__ = [
    "PATTERNS",
    "BenchmarkSettings",
    "BreakEven",
    "Crossings",
    "Machine",
    "Macs",
    "ModelBreakEven",
    "Outcome",
    "PartBudget",
    "Subject",
    "available_cores",
    "break_even",
    "budget_ours",
    "compare_model",
    "compare_sparsities",
    "count_macs",
    "model_break_even",
    "noise",
    "probe",
    "profile_modules",
    "runtime_names",
    "subjects_of",
    "wav2vec2_base",
]
