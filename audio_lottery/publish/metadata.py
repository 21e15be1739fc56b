"""The metadata at the top of a card, as the Hub reads it."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, EvalResultEntry, ModelCardData

from audio_lottery.config import RunConfig
from audio_lottery.errors import ModelError
from audio_lottery.models.checkpoint import check_name
from audio_lottery.models.load import presets
from audio_lottery.publish.names import Chosen
from audio_lottery.publish.terms import licence_of, terms_of
from audio_lottery.report.page.numbers import condition

LIBRARY = "audio_lottery"
PIPELINE = "automatic-speech-recognition"
TAGS = (PIPELINE, "audio_lottery", "lottery-ticket", "pruning", "sparse")


def base_model(config: RunConfig) -> str | None:
    """The Hub id that θ was loaded from; None for presets, folders and random weights."""
    init = config.model.init
    if init in presets() or config.model.random_init or Path(init).expanduser().exists():
        return None
    try:
        check_name(init)
    except ModelError:  # a folder that has gone since
        return None
    return init


def card_data(
    chosen: Chosen, config: RunConfig, repo: str, trained_on: list[str], licence: str | None, plain: bool
) -> ModelCardData:
    """Metadata of a ticket.

    Args:
        chosen: the round.
        config: of its run.
        repo: user/name.
        trained_on: corpora of θ and of the search, as `corpora_of` names them.
        licence: as the Hub spells it; None takes what the corpora allow.
        plain: whether plain transformers load the model.
    """
    base = base_model(config)
    tested = chosen.group.first.rounds[chosen.number]["test"]
    datasets = sorted({terms_of(name).hub_id for name in trained_on} - {""})
    languages = {terms_of(name).language for name in trained_on}
    more: dict[str, Any] = {} if base is None else {"base_model_relation": "finetune"}
    return ModelCardData(
        base_model=base,
        datasets=datasets or None,
        eval_results=[one for result in tested.values() for one in _results(result, repo)],
        language=languages.pop() or None if len(languages) == 1 else None,
        library_name="transformers" if plain else LIBRARY,
        license=licence or licence_of(trained_on),
        metrics=["wer", "cer"],
        model_name=repo.partition("/")[2],
        pipeline_tag=PIPELINE,
        tags=list(TAGS),
        **more,
    )


def benchmark_entries(chosen: Chosen, repo: str) -> dict[str, list[EvalResultEntry]]:
    """The newer form of evaluation results, ``.eval_results/NAME.yaml``: one file per test data set of the Hub.

    Speech as recorded only: a benchmark knows no suites. Of joined test sets there is one WER, so none of either.
    """
    entries: dict[str, list[EvalResultEntry]] = {}
    for result in chosen.group.first.rounds[chosen.number]["test"].values():
        names = result.get("corpora", [])
        if len(names) != 1 or result.get("noise") or result.get("rir"):
            continue
        name, hub_id = names[0], terms_of(names[0]).hub_id
        if hub_id:
            task = name.rsplit("/", 1)[-1].replace("-", "_").replace(".", "_")
            notes = f"WER in per cent; normaliser {result['normalizer']}, decoder {result['decoder']}"
            entry = EvalResultEntry(
                hub_id,
                task,
                round(100 * result["wer"], 2),
                source_url=f"https://huggingface.co/{repo}",
                source_name=LIBRARY,
                notes=notes,
            )
            entries.setdefault(hub_id.replace("/", "__"), []).append(entry)
    return entries


def _results(result: dict[str, Any], repo: str) -> Iterable[EvalResult]:
    names = result.get("corpora") or ["speech"]
    terms = [terms_of(name) for name in names]
    splits = "+".join(name.partition("/")[2].rsplit("/", 1)[-1] or "test" for name in names)
    for metric in ("wer", "cer"):
        if metric in result:
            yield EvalResult(
                task_type=PIPELINE,
                task_name="Automatic speech recognition",
                dataset_type="+".join(one.hub_id or one.title for one in terms),
                dataset_name=", ".join(one.title for one in terms),
                dataset_split=splits,
                metric_type=metric,
                metric_value=round(100 * result[metric], 2),
                metric_name=f"{metric.upper()} in per cent, suite {result['suite']} ({condition(result)}), "
                f"normaliser {result['normalizer']}",
                source_name=LIBRARY,
                source_url=f"https://huggingface.co/{repo}",
            )
