"""What a person sees of a training: a progress bar, and a line for every evaluation."""

import logging
from typing import Any

from tqdm import tqdm

from audio_lottery.training.hook import Hook
from audio_lottery.training.state import Training

logger = logging.getLogger(__name__)


class Show(Hook):
    """Progress bar on every machine, lines of the main process."""

    def __init__(self) -> None:
        self._bar: Any = None

    def start(self, training: Training) -> None:
        """An empty bar."""
        hidden = not training.accelerator.is_local_main_process or None
        self._bar = tqdm(total=training.total_steps, desc=training.stage.description, unit="step", disable=hidden)

    def load(self, training: Training, folder: object) -> None:
        """The steps that were done before."""
        self._bar.initial = self._bar.n = training.progress.step
        self._bar.refresh()

    def after_step(self, training: Training) -> None:
        """One step more."""
        self._bar.update()

    def after_evaluation(self, training: Training, best: bool) -> None:
        """What the evaluation gave."""
        latest = training.progress.history[-1]
        loss = {"loss": f"{training.loss:.3f}"} if training.total_steps else {}
        self._bar.set_postfix(**loss, dev_wer=f"{latest['wer']:.3f}")
        if training.accelerator.is_main_process:
            logger.info(
                "%s: %s, dev WER %.2f %%, CER %.2f %%%s",
                training.stage.description,
                f"step {training.progress.step}/{training.total_steps}, loss {training.loss:.3f}"
                if training.total_steps
                else "not trained",
                100 * latest["wer"],
                100 * latest["cer"],
                " (best so far)" if best else "",
            )

    def finish(self, training: Training) -> None:
        """The bar stays as it is; a line if WER has chosen a model that is no better than silence, and CER the last."""
        self._bar.close()
        best, latest = training.progress.best_dev, training.progress.history[-1]
        if training.accelerator.is_main_process and best["wer"] >= 1.0 and latest["cer"] < best["cer"]:
            logger.warning(
                "%s: by dev WER (%.1f %%, no better than writing nothing) the model of step %d is kept, not the last, "
                "whose CER is lower (%.1f against %.1f %%); best_by cer, beside this training's eval_every, keeps that",
                training.stage.description,
                100 * best["wer"],
                training.progress.best_step,
                100 * latest["cer"],
                100 * best["cer"],
            )
