"""What a model's outputs mean: its processor, which output is the CTC blank, and that every token has an output."""

import logging
import re
from typing import Any

from huggingface_hub.errors import StrictDataclassFieldValidationError
from transformers import AutoFeatureExtractor, AutoTokenizer, PreTrainedConfig, Wav2Vec2Processor

from audio_lottery.config import ModelConfig
from audio_lottery.data.audio import SAMPLE_RATE
from audio_lottery.errors import ModelError, reading
from audio_lottery.models.characters import build_processor
from audio_lottery.models.checkpoint import TOKENIZER_NAMES, find_beside

logger = logging.getLogger(__name__)

# Names of the blank in the vocabularies of CTC models: [PAD], <pad>, <blank> ...
_BLANK_NAME = re.compile(r"\W*(pad|blank|blk|ctc)\W*", re.IGNORECASE)

# OmniASR's blank is not the token that it pads with; for every other architecture the pad token is the blank.
_BLANK_FIELD = "blank_token_id"


def load_processor(config: ModelConfig, takes: str, *, is_ctc: bool) -> tuple[Wav2Vec2Processor, bool]:
    """The checkpoint's own processor, or its feature extractor with a tokenizer made from ``config.characters``.

    Args:
        config: which checkpoint.
        takes: the name of the model's input.
        is_ctc: whether it has an output layer, whose outputs mean what its own tokenizer says.

    Returns:
        The processor, and whether the tokenizer is the checkpoint's own.

    Raises:
        ModelError: a file cannot be read, the feature extractor is not for this model or another sample rate, or
            nothing says what the outputs mean.
    """
    init = config.init
    extractor = load_extractor(config, takes)
    own = not config.reset_head and has_tokenizer(init, config.revision)
    if own:
        tokenizer = load_tokenizer(config)
    elif is_ctc:
        raise ModelError(
            f"'{init}' is a CTC model without a tokenizer, so nothing says what its outputs mean; copy vocab.json and "
            "tokenizer_config.json from where it was trained, or train a new output layer with --model.reset_head true"
        )
    else:
        if not config.reset_head:
            logger.info("%s brings no tokenizer: using model.characters", init)
        tokenizer = make_tokenizer(config)
    return Wav2Vec2Processor(feature_extractor=extractor, tokenizer=tokenizer), own


def load_extractor(config: ModelConfig, takes: str) -> Any:
    """The checkpoint's feature extractor.

    Args:
        config: which checkpoint.
        takes: the name of the model's input.

    Raises:
        ModelError: it cannot be read, or is not for this model or another sample rate.
    """
    init = config.init
    with reading(f"model '{init}' cannot be loaded: its feature extractor"):
        extractor = AutoFeatureExtractor.from_pretrained(init, revision=config.revision, trust_remote_code=False)
    rate = getattr(extractor, "sampling_rate", None)
    if rate != SAMPLE_RATE:
        raise ModelError(
            f"'{init}' takes audio at {rate!r} Hz (sampling_rate of its feature extractor); audio is decoded to "
            f"{SAMPLE_RATE} Hz here: use a model for {SAMPLE_RATE} Hz"
        )
    gives = extractor.model_input_names[0]
    if gives != takes:
        raise ModelError(
            f"the {type(extractor).__name__} of '{init}' gives {gives}, but the model takes {takes}; get the "
            "preprocessor_config.json that belongs to the weights"
        )
    return extractor


def load_tokenizer(config: ModelConfig) -> Any:
    """The checkpoint's tokenizer.

    Raises:
        ModelError: it cannot be read.
    """
    with reading(f"model '{config.init}' cannot be loaded: its tokenizer (vocab.json, tokenizer_config.json ...)"):
        return AutoTokenizer.from_pretrained(config.init, revision=config.revision, trust_remote_code=False)


def make_tokenizer(config: ModelConfig) -> Any:
    """The tokenizer of a model that is built: of ``config.tokenizer``, or of ``config.characters``.

    Raises:
        ModelError: there is no tokenizer in that folder.
    """
    if config.tokenizer is None:
        return build_processor(config.characters).tokenizer
    with reading(f"model.tokenizer '{config.tokenizer}'", "make it with `audio-lottery prepare tokenizer`"):
        return AutoTokenizer.from_pretrained(config.tokenizer, trust_remote_code=False)


def settle_outputs(architecture: PreTrainedConfig, tokenizer: Any, init: str, *, is_ctc: bool) -> None:
    """Make model and tokenizer agree on the outputs: how many there are, and which of them is the CTC blank.

    A new output layer gets an output for every token. An output layer that is there stays as it is: its configuration
    and its tokenizer must name the same blank, and every token must have an output. Only special tokens that CTC does
    not use may lie beyond: many tokenizers list <s> and </s> behind the characters that the model was trained to write.

    Args:
        architecture: of the model; changed in place.
        tokenizer: its pad token becomes the blank.
        init: for messages.
        is_ctc: whether the output layer is there.

    Raises:
        ModelError: the blank is not known, or the tokenizer is not that of this output layer; names token and id.
    """
    tokens = _tokens(tokenizer, init)
    if not is_ctc:
        _check_new_blank(tokenizer, tokens, init)
        _set_new_layer(architecture, tokenizer, outputs=max(tokens) + 1)
        _try_decoding(tokenizer, tokens, init)
        return
    outputs = getattr(architecture, "vocab_size", None)
    if not isinstance(outputs, int) or outputs < 1:
        raise ModelError(f"the config.json of '{init}' has no vocab_size, the number of the model's outputs; add it")
    blank = _blank(architecture, tokenizer, tokens, outputs, init)
    if tokenizer.pad_token_id != blank:
        tokenizer.pad_token = tokens[blank]
    set_fields(architecture, {_blank_field(architecture): blank})
    _try_decoding(tokenizer, {index: token for index, token in tokens.items() if index < outputs}, init)
    _check_tokens(tokenizer, tokens, outputs, init)


def settle_transducer(architecture: PreTrainedConfig, tokenizer: Any, init: str, *, is_ctc: bool) -> None:
    """As `settle_outputs`, for transducers: the blank is ``blank_token_id``, whatever the tokenizer pads with.

    Args:
        architecture: of the model; changed in place where the output layer is new.
        tokenizer: stays as it is where the output layer is there.
        init: for messages.
        is_ctc: whether the output layer is there.

    Raises:
        ModelError: the blank is no output or a piece of text, or the tokenizer is not that of this output layer.
    """
    if not is_ctc:
        settle_outputs(architecture, tokenizer, init, is_ctc=False)
        return
    tokens = _tokens(tokenizer, init)
    blank: Any = getattr(architecture, _BLANK_FIELD, None)
    outputs: Any = getattr(architecture, "vocab_size", None)
    if not (isinstance(blank, int) and isinstance(outputs, int) and 0 <= blank < outputs):
        raise ModelError(
            f"the config.json of '{init}' gives vocab_size {outputs!r} and {_BLANK_FIELD} {blank!r}; the blank of a "
            "transducer is one of its outputs: get the config.json that belongs to the weights"
        )
    spelt = tokens.setdefault(blank, "<blank>")
    if not _BLANK_NAME.fullmatch(spelt) and spelt not in tokenizer.all_special_tokens:
        raise ModelError(
            f"the blank of '{init}' has id {blank}, which is '{spelt}' in its tokenizer; get the tokenizer that "
            "belongs to the weights"
        )
    _check_tokens(tokenizer, tokens, outputs, init)


def set_fields(architecture: PreTrainedConfig, fields: dict[str, Any]) -> None:
    """Set those fields that the architecture has; None only where it may be None (UniSpeechSat wants an id)."""
    for name, value in fields.items():
        if not hasattr(architecture, name):
            continue
        try:
            setattr(architecture, name, value)
        except StrictDataclassFieldValidationError:
            if value is not None:
                raise


def _set_new_layer(architecture: PreTrainedConfig, tokenizer: Any, outputs: int) -> None:
    fields = {
        "vocab_size": outputs,
        _BLANK_FIELD: tokenizer.pad_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }
    set_fields(architecture, fields)
    for name in architecture.sub_configs:  # Granite's encoder has a copy of the output layer inside
        set_fields(getattr(architecture, name), {"vocab_size": outputs})


def _blank_field(architecture: PreTrainedConfig) -> str:
    return _BLANK_FIELD if hasattr(architecture, _BLANK_FIELD) else "pad_token_id"


def _blank(architecture: PreTrainedConfig, tokenizer: Any, tokens: dict[int, str], outputs: int, init: str) -> int:
    """The blank of an output layer that is there: what the model was trained with, in the words of its tokenizer."""
    field = _blank_field(architecture)
    trained: Any = getattr(architecture, field, None)
    named: Any = tokenizer.pad_token_id
    is_output = {index: index is not None and 0 <= index < outputs and index in tokens for index in (trained, named)}
    if field == _BLANK_FIELD and is_output[trained]:
        return int(trained)
    if is_output[named] and (named == trained or not is_output[trained]):
        return int(named)
    # The pad token's default is put behind a vocabulary that lacks it: nobody named that blank.
    nobody = named is None or named >= tokenizer.vocab_size
    if nobody and is_output[trained] and _BLANK_NAME.fullmatch(tokens[trained]):
        return int(trained)
    spelt = "none" if named is None else f"'{tokenizer.pad_token}' (id {named})"
    config = "none" if trained is None else f"{trained}" + (f" ('{tokens[trained]}')" if trained in tokens else "")
    raise ModelError(
        f"which output of '{init}' is the CTC blank is not known: the pad token of its tokenizer is {spelt}, the "
        f"{field} of its config.json is {config}, and the model has {_range(outputs)}; correct pad_token in "
        f"tokenizer_config.json{_suggested(tokens, outputs)} or {field} in config.json"
    )


def _check_new_blank(tokenizer: Any, tokens: dict[int, str], init: str) -> None:
    """A vocabulary with a blank that the tokenizer does not know as such would be written as text."""
    named = tokenizer.pad_token_id
    suggested = _suggested(tokens, tokenizer.vocab_size)
    if named is None or (named >= tokenizer.vocab_size and suggested):
        raise ModelError(
            f"the tokenizer of '{init}' names no pad token of its vocabulary, which is the CTC blank; add pad_token to "
            f"tokenizer_config.json{suggested}"
        )


def _suggested(tokens: dict[int, str], outputs: int) -> str:
    """The first token that is a blank by its name, as one would write it."""
    names = [tokens[index] for index in sorted(tokens) if index < outputs and _BLANK_NAME.fullmatch(tokens[index])]
    return f' (as "pad_token": "{names[0]}")' if names else ""


def _check_tokens(tokenizer: Any, tokens: dict[int, str], outputs: int, init: str) -> None:
    """Every token that the model may write has an output, and every output a token."""
    delimiter = getattr(tokenizer, "word_delimiter_token", None)
    unused = {str(token) for token in tokenizer.added_tokens_decoder.values() if token.special}
    unused = (unused | {*tokenizer.all_special_tokens}) - {delimiter}
    beyond = [index for index, token in tokens.items() if index >= outputs and token not in unused]
    remedy = "get the tokenizer that belongs to the weights, or train a new output layer with --model.reset_head true"
    if beyond:
        first = min(beyond)
        what = "word delimiter" if tokens[first] == delimiter else "token"
        raise ModelError(
            f"the {what} '{tokens[first]}' of '{init}' has id {first}, but the model has {_range(outputs)}; {remedy}"
        )
    nameless = [index for index in range(outputs) if index not in tokens]
    if nameless:
        what = (
            f"the tokenizer of '{init}' has no token for {len(nameless)} of the model's {_range(outputs)}, the first "
            f"is {nameless[0]}"
        )
        if tokenizer.unk_token is None:
            raise ModelError(f"{what}; {remedy}")
        logger.warning("%s: they read as %s", what, tokenizer.unk_token)


def _try_decoding(tokenizer: Any, tokens: dict[int, str], init: str) -> None:
    """Whether the tokenizer merges repeats and leaves out blanks: one of another kind of model would write them."""
    blank, special = tokenizer.pad_token_id, set(tokenizer.all_special_tokens)
    for index in sorted(tokens):
        text = tokenizer.decode([index]) if index != blank and tokens[index] not in special else ""
        if text:
            if tokenizer.decode([index, index, blank]) != text or tokenizer.decode([index, blank, index]) == text:
                raise ModelError(
                    f"the {type(tokenizer).__name__} of '{init}' does not decode CTC outputs (it does not merge "
                    "repeats and leave out blanks); use a model with a CTC tokenizer, such as Wav2Vec2CTCTokenizer"
                )
            return
    raise ModelError(f"the vocabulary of '{init}' has no characters; get the one that belongs to the weights")


def _tokens(tokenizer: Any, init: str) -> dict[int, str]:
    """Id → token; the vocabulary before what was added to it (a tokenizer of many languages adds tokens of others)."""
    vocabulary: dict[str, int] = getattr(tokenizer, "encoder", None) or tokenizer.get_vocab()
    tokens: dict[int, str] = {}
    for token, index in vocabulary.items():
        if not isinstance(index, int) or index < 0:
            raise ModelError(f"the vocabulary of '{init}' gives '{token}' the id {index!r}; ids are 0, 1, 2 ...")
        if index in tokens:
            raise ModelError(f"the vocabulary of '{init}' gives '{tokens[index]}' and '{token}' the same id, {index}")
        tokens[index] = token
    return {index: token for token, index in tokenizer.get_vocab().items()} | tokens


def has_tokenizer(init: str, revision: str | None) -> bool:
    """Whether there are files of a tokenizer; transformers makes one up for some architectures where there are not."""
    return any(find_beside(init, revision, name) is not None for name in TOKENIZER_NAMES)


def _range(outputs: int) -> str:
    return f"{outputs} outputs (0 to {outputs - 1})"
