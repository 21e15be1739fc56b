"""Corpora as a card names them: title, Hub id, licence. Another corpus is one line in `TERMS`."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from datasets import Dataset

from audio_lottery.config import CorpusConfig
from audio_lottery.data.corpora.mini import MINI


@dataclass(frozen=True)
class Terms:
    """What is known of a corpus.

    Attributes:
        title: its name.
        licence: as the Hub spells licences; empty where it is not known here.
        says: the licence in words.
        hub_id: data set on the Hub; empty where there is none.
        language: ISO 639-1 code; empty where it depends on the download.
    """

    title: str
    licence: str = ""
    says: str = "its licence is not known here: ask whoever made it"
    hub_id: str = ""
    language: str = ""


_SYNTHETIC = Terms(
    "", "", "synthesised by eSpeak NG for tests; nobody's speech, no claim on what is trained on it", "", "en"
)

TERMS: dict[str, Terms] = {
    "librispeech": Terms("LibriSpeech", "cc-by-4.0", "CC BY 4.0", "openslr/librispeech_asr", "en"),
    "common_voice": Terms("Common Voice", "cc0-1.0", "CC0 1.0"),
    "tedlium": Terms(
        "TED-LIUM",
        "cc-by-nc-nd-3.0",
        "CC BY-NC-ND 3.0: no commercial use, no derivatives. Whether weights trained on it are a derivative is not "
        "settled; take them as non-commercial",
        "LIUM/tedlium",
        "en",
    ),
    **{name: Terms(name, _SYNTHETIC.licence, _SYNTHETIC.says, "", _SYNTHETIC.language) for name in MINI},
}
"""Corpus as a manifest or a configuration names it → what is known of it."""

# What weights trained on several corpora are bound by: the first of these that any of them has.
_STRICTEST = ("cc-by-nc-nd-3.0", "cc-by-4.0", "cc0-1.0")


def terms_of(name: str) -> Terms:
    """The terms behind a name of the manifest's column ``corpus``; an unknown corpus has its name as title."""
    if name.startswith("hub:"):
        parts = name.removeprefix("hub:").split("/")
        known = "/".join(parts[:2])
        return next((terms for terms in TERMS.values() if terms.hub_id == known), Terms(known, hub_id=known))
    kind = name.partition("/")[0]
    return TERMS.get(kind, Terms(kind))


def corpora_of(entries: Sequence[CorpusConfig], manifest: Dataset) -> list[str]:
    """Names of the corpora in a manifest, sorted; mini corpora, which look like the real ones, by their own.

    Args:
        entries: what the configuration names.
        manifest: what was read from it.
    """
    names = {f"{entry.corpus}/{entry.split}" for entry in entries if entry.corpus in MINI}
    if any(entry.corpus not in MINI for entry in entries):
        names |= {_without_folders(name) for name in manifest.unique("corpus")}
    return sorted(names)


def licence_of(corpora: Iterable[str]) -> str:
    """The licence that weights trained on these corpora may claim at most, as the Hub spells it; ``unknown`` otherwise.

    Mini corpora alone give none either: whoever publishes decides.
    """
    found = {terms_of(name).licence for name in corpora}
    if "" in found and "cc-by-nc-nd-3.0" not in found:
        return "unknown"
    return next((licence for licence in _STRICTEST if licence in found), "unknown")


def _without_folders(name: str) -> str:
    """A data set read from a folder has its path in its name: only the end is anybody's business."""
    place = name.removeprefix("hub:")
    return f"hub:{place.rsplit('/', 2)[-2]}" if name.startswith("hub:/") else name
