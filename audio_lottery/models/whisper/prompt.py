"""What Whisper is told before it writes, and what its checkpoint says about writing, held against the recipe's."""

import copy
import logging
from dataclasses import dataclass
from typing import Any

from transformers import GenerationConfig, PreTrainedConfig
from transformers.models.whisper.tokenization_whisper import LANGUAGES, TO_LANGUAGE_CODE
from transformers.utils import GENERATION_CONFIG_NAME

from audio_lottery.errors import ModelError, reading
from audio_lottery.models.checkpoint import find_beside
from audio_lottery.models.whisper.tokenizer import END, NO_TIMESTAMPS, START, TRANSCRIBE

logger = logging.getLogger(__name__)

# OpenAI's rule: vocabularies of this size and more are multilingual.
_MULTILINGUAL_VOCABULARY = 51865

# What changes the text, and which of its values a search decodes with; unset is as good.
_DECODED_WITH: dict[str, Any] = {
    "do_sample": False,
    "num_beams": 1,
    "num_return_sequences": 1,
    "length_penalty": 1.0,
    "repetition_penalty": 1.0,
    "encoder_repetition_penalty": 1.0,
    "no_repeat_ngram_size": 0,
    "min_length": 0,
    "return_timestamps": False,
    "task": "transcribe",
}
_REMEDY = {
    "num_beams": "the beam is evaluation.decoder.beam_size",
    "language": "the language is model.language",
}


@dataclass(frozen=True)
class Prompt:
    """The tokens that come before a text.

    Attributes:
        tokens: start of transcript, of multilingual models language and task, no timestamps.
        end: the token that ends a text.
    """

    tokens: tuple[int, ...]
    end: int


def read_generation(init: str, revision: str | None, architecture: PreTrainedConfig) -> GenerationConfig:
    """The checkpoint's generation_config.json; what config.json says, where there is none.

    Raises:
        ModelError: it cannot be read.
    """
    file = find_beside(init, revision, GENERATION_CONFIG_NAME)
    if file is None:
        logger.warning(
            "%s has no %s: nothing is suppressed that its config.json does not", init, GENERATION_CONFIG_NAME
        )
        return GenerationConfig.from_model_config(architecture)
    with reading(f"{file}, which should be JSON,", "get it again"):
        return GenerationConfig.from_pretrained(file.parent, file.name)


def make_prompt(generation: GenerationConfig, tokenizer: Any, init: str) -> Prompt:
    """The prompt of a model whose generation settings are those of `settle_generation`.

    Raises:
        ModelError: the tokenizer lacks one of Whisper's special tokens.
    """
    names = [START, NO_TIMESTAMPS]
    language = getattr(generation, "language", None)
    if language is not None:
        names[1:1] = [_language_token(language, init), TRANSCRIBE]
    ids = special_ids(tokenizer, init, [*names, END])
    return Prompt(tuple(ids[name] for name in names), ids[END])


def settle_generation(
    published: GenerationConfig, architecture: Any, tokenizer: Any, language: str | None, init: str
) -> GenerationConfig:
    """The settings that a model writes with, alone and in plain transformers: the published ones and the language.

    Args:
        published: of the checkpoint.
        architecture: its config.json.
        tokenizer: its tokenizer.
        language: as the user sets it.
        init: for messages.

    Raises:
        ModelError: a multilingual model without a language, a language that the model does not know, or published
            settings that a search does not decode with.
    """
    settled = copy.deepcopy(published)
    settled._from_model_config = False  # with it, what transformers has no field for is not read back
    own = getattr(published, "language", None)
    code = _code(language or own, init)
    multilingual = getattr(published, "is_multilingual", None)
    if multilingual is None:
        multilingual = architecture.vocab_size >= _MULTILINGUAL_VOCABULARY
    if multilingual and code is None:
        raise ModelError(
            f"'{init}' is multilingual, and nothing says what is spoken: set model.language, e.g. --model.language en"
        )
    if not multilingual:
        if code not in (None, "en"):
            raise ModelError(f"'{init}' knows English only, and model.language is {language or own!r}; leave it out")
        code = None
    else:
        _name_tokens(settled, tokenizer)
    settled.is_multilingual = multilingual
    settled.language = None if code is None else f"<|{code}|>"
    settled.task = None if code is None else "transcribe"
    prompt = make_prompt(settled, tokenizer, init)
    problems = _contradictions(published, architecture, prompt)
    if own is not None and language is not None and _code(own, init) != _code(language, init):
        problems.append(f"language {own!r} and not {language!r} ({_REMEDY['language']})")
    if problems:
        raise ModelError(
            f"the {GENERATION_CONFIG_NAME} of '{init}' contradicts what this search decodes with: "
            f"{'; '.join(problems)}; correct it, or remove the setting from the file"
        )
    settled.forced_decoder_ids = None  # language and task say the same, and transformers takes only one of them
    return settled


def _name_tokens(settled: GenerationConfig, tokenizer: Any) -> None:
    """Tell plain transformers the ids of languages and tasks, where the checkpoint does not."""
    vocabulary: dict[str, int] = tokenizer.get_vocab()
    names = {"lang_to_id": {f"<|{code}|>": f"<|{code}|>" for code in LANGUAGES}}
    names["task_to_id"] = {task: f"<|{task}|>" for task in ("transcribe", "translate")}
    for field, tokens in names.items():
        if getattr(settled, field, None) is None:
            setattr(settled, field, {key: vocabulary[name] for key, name in tokens.items() if name in vocabulary})


def special_ids(tokenizer: Any, init: str, names: list[str]) -> dict[str, int]:
    """Ids of special tokens.

    Raises:
        ModelError: the tokenizer lacks one.
    """
    vocabulary: dict[str, int] = tokenizer.get_vocab()
    missing = [name for name in names if name not in vocabulary]
    if missing:
        raise ModelError(
            f"the {type(tokenizer).__name__} of '{init}' has no token {', '.join(missing)}; get the tokenizer that "
            "belongs to the weights"
        )
    return {name: vocabulary[name] for name in names}


def _code(language: str | None, init: str) -> str | None:
    if language is None:
        return None
    word = language.lower().removeprefix("<|").removesuffix("|>")
    code = TO_LANGUAGE_CODE.get(word, word)
    if code not in LANGUAGES:
        raise ModelError(
            f"model.language is {language!r}, which Whisper has no token for ('{init}'); give a code or an English "
            "name, such as de or german"
        )
    return code


def _language_token(language: str, init: str) -> str:
    return f"<|{_code(language, init)}|>"


def _contradictions(published: GenerationConfig, architecture: Any, prompt: Prompt) -> list[str]:
    problems = []
    for name, ours in _DECODED_WITH.items():
        value = getattr(published, name, None)
        if value is not None and value != ours:
            problems.append(f"{name} {value!r} and not {ours!r}" + (f" ({_REMEDY[name]})" if name in _REMEDY else ""))
    for name, ours in (("decoder_start_token_id", prompt.tokens[0]), ("eos_token_id", prompt.end)):
        value = getattr(published, name, None)
        if value not in (None, ours, [ours]):
            problems.append(f"{name} {value!r}, which is {ours} in its tokenizer")
    for place, token in getattr(published, "forced_decoder_ids", None) or ():
        if token is not None and (place >= len(prompt.tokens) or token != prompt.tokens[place]):
            problems.append(f"forced_decoder_ids {[place, token]}, and the prompt is {list(prompt.tokens)}")
    for name in ("suppress_tokens", "begin_suppress_tokens"):
        ids = getattr(published, name, None) or ()
        strange = [token for token in ids if not 0 <= token < architecture.vocab_size]
        if strange:
            problems.append(f"{name} has {strange[0]}, and the model has {architecture.vocab_size} outputs")
        if name == "suppress_tokens" and prompt.end in ids:
            problems.append(f"{name} has {prompt.end}, the end, so that no text would end")
    limit, places = published.max_length, architecture.max_target_positions
    if limit is not None and limit > places:
        problems.append(f"max_length {limit}, and the decoder has {places} positions")
    return problems
