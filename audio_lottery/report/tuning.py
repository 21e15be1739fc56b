"""WER over the weights of a language model, as text."""

from collections.abc import Sequence

from audio_lottery.evaluation.decoding.tuning import Point, best_point


def format_grid(points: Sequence[Point]) -> str:
    """WER in per cent as a table: language model weights down, word scores across, the best one with a star."""
    best = best_point(points)
    scores = sorted({point.word_score for point in points})
    cells = {
        (point.lm_weight, point.word_score): f"{100 * point.wer:.2f}{'*' if point is best else ' '}" for point in points
    }
    lines = ["lm_weight \\ word_score" + "".join(f"{value:>9g} " for value in scores)]
    for weight in sorted({point.lm_weight for point in points}):
        lines.append(f"{weight:>22g}" + "".join(f"{cells.get((weight, value), '- '):>10}" for value in scores))
    return "\n".join(lines)
