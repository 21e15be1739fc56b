"""A new card over an old one: what a human wrote stays."""

import re
from typing import Any

import yaml
from huggingface_hub import CardData, ModelCard, ModelCardData

from audio_lottery.errors import HubError
from audio_lottery.publish.metadata import LIBRARY

BEGIN = "<!-- audio_lottery: begin of what is written anew when the ticket is published again -->"
END = "<!-- audio_lottery: end; what stands above or below the two marks stays -->"

_TAKEN = re.compile(r"<!-- licence: (\S+) -->")

# Of these, the old card's entries stay beside the new ones.
_LISTS = ("tags", "datasets", "metrics")


def merge_cards(data: ModelCardData, body: str, old: str, *, keep_licence: bool) -> str:
    """The card to upload.

    Args:
        data: new metadata.
        body: new text, without marks.
        old: the card that is there; empty where there is none.
        keep_licence: whether a licence that a human put into the old card stays, because none was asked for.

    Returns:
        The whole file. Metadata that only the old card has stays, and so do its other evaluation results; text outside
        the marks stays, and an old card without marks is kept whole below the new text.

    Raises:
        HubError: the old card's metadata cannot be read.
    """
    above, below, ours = "", "", data.license
    if old.strip():
        try:
            card = ModelCard(old)
        except (ValueError, TypeError, KeyError, AttributeError, yaml.YAMLError) as error:
            raise HubError(
                f"the card in the repository cannot be read ({error}); correct its metadata there, or remove it, and "
                "publish again"
            ) from error
        taken = _TAKEN.search(card.text)
        data = _merge_data(data, card.data, keep_licence, taken.group(1) if taken else None)
        above, below = _around(card.text)
    # so that the next time a licence that we took from the corpora is known from one that a human chose
    marked = f"{BEGIN}\n<!-- licence: {ours} -->\n{body.strip()}\n{END}"
    text = "\n\n".join(part for part in (above.strip(), marked, below.strip()) if part)
    return f"---\n{data.to_yaml()}\n---\n\n{text}\n"


def _around(text: str) -> tuple[str, str]:
    """What stands above and below the marks; a mark without the other is taken for text and dropped."""
    start, end = text.find(BEGIN), text.find(END)
    if 0 <= start < end:
        return text[:start], text[end + len(END) :]
    return "", text.replace(BEGIN, "").replace(END, "")


def _merge_data(new: ModelCardData, old: CardData, keep_licence: bool, ours: str | None) -> ModelCardData:
    there = {key: value for key, value in old.__dict__.items() if value is not None}
    fresh = {key: value for key, value in new.__dict__.items() if value is not None}
    for key in _LISTS:
        kept = there.get(key) or []
        kept = [kept] if isinstance(kept, str) else list(kept)
        fresh[key] = list(dict.fromkeys([*(fresh.get(key) or []), *kept])) or None
    if keep_licence and there.get("license") not in (None, "unknown", ours):
        for key in ("license", "license_name", "license_link"):
            fresh[key] = there.get(key)
    others = [one for one in there.get("eval_results") or [] if one.source_name != LIBRARY]
    fresh["eval_results"] = [*(fresh.get("eval_results") or []), *others]
    merged: dict[str, Any] = {**there, **fresh}
    merged.pop("ignore_metadata_errors", None)
    return ModelCardData(**merged)
