"""Evaluate any CTC model, ours or not, on the test suites of a configuration."""

from pathlib import Path
from typing import Any

from audio_lottery.config import ModelConfig, RunConfig
from audio_lottery.data.corpora.load import load_manifest
from audio_lottery.evaluation.suites import run_suite
from audio_lottery.models.ctc import load_recogniser
from audio_lottery.storage import write_json
from audio_lottery.training.processes import make_accelerator


def evaluate_model(checkpoint: str, config: RunConfig, out: Path | None = None) -> dict[str, dict[str, Any]]:
    """Run every suite of ``config.evaluation`` on ``config.data.test`` and print one line each.

    Args:
        checkpoint: folder or Hub id.
        config: gives test splits, suites and normaliser; of its model section only ``attention`` is used.
        out: JSON file for the results, suite → result as in ``metrics.json``.

    Raises:
        ModelError: the model cannot be loaded.
        CorpusError: a test corpus is missing or damaged.
    """
    accelerator = make_accelerator("no", config.num_processes)
    source = ModelConfig(init=checkpoint, attention=config.model.attention)
    recogniser = load_recogniser(source, config.seed)
    recogniser.model.to(accelerator.device)
    root = Path(config.data.root).expanduser()
    with accelerator.main_process_first():
        manifest = load_manifest(config.data.test, root)
    results = {}
    for suite in config.evaluation.suites:
        result, _ = run_suite(
            recogniser,
            manifest,
            suite,
            accelerator,
            config.evaluation,
            normalizer=config.data.normalizer,
            root=root,
            num_workers=config.data.num_workers,
        )
        results[suite.name] = result
        if accelerator.is_main_process:
            print(
                f"{suite.name}: WER {100 * result['wer']:.2f} %, CER {100 * result['cer']:.2f} % "
                f"({result['reference_words']} words, {result['utterances']} utterances, "
                f"normaliser {result['normalizer']})"
            )
    if out is not None and accelerator.is_main_process:
        write_json(out, results)
    return results
