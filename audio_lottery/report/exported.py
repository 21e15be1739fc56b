"""What `audio-lottery export` wrote, as text."""

from collections.abc import Sequence

from audio_lottery.export import Exported
from audio_lottery.report.columns import format_columns


def format_exported(done: Exported) -> str:
    """Size, zeros, and how the outputs compare with torch's."""
    zeros = done.zeros
    rows = [
        (
            _seconds(trial.seconds),
            f"{trial.largest:.1e}",
            f"{trial.spread:.2f}",
            f"{100 * trial.same_labels:.1f}",
            "yes" if trial.same_text else "no",
        )
        for trial in done.trials
    ]
    header = ["seconds of audio", "largest difference", "logits' spread", "same labels %", "same text"]
    lines = [
        f"{done.folder}: {done.bytes:,} bytes of model, written by way of {done.route}",
        f"{zeros.matrices} matrices of {zeros.weights:,} weights, {zeros.zeros:,} of them zero in the model and "
        f"{zeros.exported:,} in the file",
        "",
        format_columns(header, rows, left=1),
        "",
        f"next: python {done.folder / 'recognise.py'} FILE.wav",
    ]
    return "\n".join(lines)


def _seconds(lengths: Sequence[float]) -> str:
    if len(lengths) == 1:
        return f"{lengths[0]:.2f}"
    return f"{len(lengths)} of {min(lengths):.2f} to {max(lengths):.2f}"
