"""A plan as text, at most 100 columns wide."""

from collections.abc import Mapping
from statistics import median

from audio_lottery.lottery.plan import Plan, PlannedStage
from audio_lottery.report.columns import duration, format_columns

_MOST = 12  # groups of tensors that are listed


def format_plan(plan: Plan) -> str:
    """The whole plan; times only where there was a trial."""
    prunable = sum(weights for _, weights in plan.prunable.values())
    parts = [
        f"{plan.run_dir}: {plan.parameters:,} parameters, {prunable:,} prunable "
        f"({100 * prunable / plan.parameters:.1f} %)",
        _groups("prunable", plan.prunable),
        _groups("left out", plan.left_out),
        _stages(plan),
    ]
    if plan.dropped:
        dropped = ", ".join(f"{count} {reason}" for reason, count in plan.dropped.items())
        parts.append(f"left out of training: {dropped}")
    parts.append(
        f"disk: {_bytes(plan.disk_bytes)} at the end, {_bytes(plan.disk_peak_bytes)} at most (search.keep decides)\n"
        f"memory: {_bytes(plan.training_bytes)} for weights, gradients, AdamW and the best model, activations besides"
    )
    if plan.answer_bytes:
        parts[-1] += f"\n        {_bytes(plan.answer_bytes)} for what the teacher says of the training speech"
    if plan.trial is not None:
        steps = plan.trial.step_seconds
        line = (
            f"trial: {len(steps)} steps of {median(steps):.2f} s ({min(steps):.2f} to {max(steps):.2f}); evaluation "
            f"{1 / plan.trial.evaluation_factor:.0f} times as fast as the audio"
        )
        if plan.trial.peak_bytes is not None:
            line += f"; {_bytes(plan.trial.peak_bytes)} at the peak"
        total = [
            sum(plan.seconds(stage, one) for stage in plan.stages) for one in (median(steps), min(steps), max(steps))
        ]
        likely, least, most = map(duration, total)
        parts += [line, f"in all: about {likely} ({least} to {most}), if the machine stays as it is"]
    return "\n\n".join(parts)


def _groups(title: str, groups: Mapping[str, tuple[int, int]]) -> str:
    largest = sorted(groups.items(), key=lambda item: -item[1][1])
    body = [[name, str(tensors), f"{weights:,}"] for name, (tensors, weights) in largest[:_MOST]]
    if len(largest) > _MOST:
        rest = [counts for _, counts in largest[_MOST:]]
        body.append([f"{len(rest)} more", str(sum(t for t, _ in rest)), f"{sum(w for _, w in rest):,}"])
    return format_columns([title, "tensors", "weights"], body, left=1)


def _stages(plan: Plan) -> str:
    header = ["stage", "RW %", "weights kept", "steps", "audio heard"]
    body = [[*_stage(stage)] for stage in plan.stages]
    if plan.trial is not None:
        header.append("time")
        step = median(plan.trial.step_seconds)
        body = [[*row, duration(plan.seconds(stage, step))] for row, stage in zip(body, plan.stages, strict=True)]
    return format_columns(header, body, left=1)


def _stage(stage: PlannedStage) -> list[str]:
    density = "" if stage.density is None else f"{100 * stage.density:.2f}"
    kept = "" if stage.kept is None else f"{stage.kept:,}"
    return [stage.name, density, kept, f"{stage.steps:,}", duration(stage.audio_seconds)]


def _bytes(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            return f"{count:.0f} {unit}" if count >= 100 or unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    raise ValueError("unreachable")
