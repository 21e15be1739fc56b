"""The classes that `accelerate` knows: a new one is a line here."""

from torch import nn

from audio_lottery.sparse.runtime.bidirectional import SummedLSTM
from audio_lottery.sparse.runtime.conformer import ConformerEncoder
from audio_lottery.sparse.runtime.convolution import SparseConv1d
from audio_lottery.sparse.runtime.convolution_2d import SparseConv2d
from audio_lottery.sparse.runtime.front_end import FrontEnd
from audio_lottery.sparse.runtime.head import CTCHead
from audio_lottery.sparse.runtime.linear import SparseLinear
from audio_lottery.sparse.runtime.lstm import SparseLSTM
from audio_lottery.sparse.runtime.modules import Packable, Runner, changed
from audio_lottery.sparse.runtime.projection import FeatureProjection
from audio_lottery.sparse.runtime.subsampling import Subsampling
from audio_lottery.sparse.runtime.wav2vec2 import Encoder
from audio_lottery.sparse.runtime.whisper import WindowEncoder
from audio_lottery.sparse.runtime.whisper_decoder import DecoderLayer
from audio_lottery.sparse.runtime.words import WordLinear

# The first that claims a module decides on it.
RUNNERS: list[type[Runner]] = [
    FrontEnd,
    FeatureProjection,
    Encoder,
    WindowEncoder,
    DecoderLayer,
    WordLinear,
    ConformerEncoder,
    Subsampling,
    CTCHead,
    SummedLSTM,
    SparseLinear,
    SparseConv1d,
    SparseConv2d,
    SparseLSTM,
]


def runner_of(module: nn.Module) -> tuple[type[Runner] | None, str]:
    """Which class takes the place of ``module``.

    Returns:
        The class that claims it (None if none does), and why it cannot run it all the same; empty where it can. A class
        that runs several layers at once cannot where one of them was changed.
    """
    found = next((runner for runner in RUNNERS if runner.claims(module)), None)
    if found is None:
        return None, ""
    why = found.misfit(module)
    if not why and not issubclass(found, Packable):
        inner = (part for part in module.modules() if part is not module)
        why = next((note for part in inner if _is_packable(part) and (note := changed(part))), "")
    return found, why


def _is_packable(module: nn.Module) -> bool:
    # from the end: the last ones look at a module's class alone, the words' at its weights
    return any(issubclass(runner, Packable) and runner.claims(module) for runner in reversed(RUNNERS))
