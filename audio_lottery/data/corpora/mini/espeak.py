"""A ctypes binding of the few functions of eSpeak NG that the mini corpora need.

eSpeak NG is GPL: this module is imported by the synthesising process (`synthesise`) only, which shares nothing with the
rest of the package but files. What eSpeak says depends on what it said before in the same process, so the same voices
and sentences in the same order in a *fresh* process give the same samples, bit for bit, and another order does not.
(It also depends on the time of day, unless the random seed is set as in `Espeak.use`.)
"""

import ctypes
import os
import tempfile
from pathlib import Path

import espeakng_loader
import numpy as np
import numpy.typing as npt

from .voices import Voice

_SYNCHRONOUS = 2  # AUDIO_OUTPUT_SYNCHRONOUS; the asynchronous modes start a thread that hangs after a fork
_DONT_EXIT = 0x8000  # else a missing data file ends the process inside the library, with no message of ours
_RATE, _VOLUME, _PITCH = 1, 2, 3
_UTF8 = 1
_BUFFER_MS = 500
# Quieter than eSpeak's own 100: its louder voices clip inside the synthesiser there. `level` makes up for it.
_LOUDNESS = 60
# eSpeak keeps its data path in 160 bytes and cuts a longer one off without a word.
_LONGEST_PATH = 120

_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)


class Espeak:
    """The one eSpeak of this process.

    Attributes:
        rate: samples per second of everything `say` returns (22,050).

    Raises:
        RuntimeError: the library cannot be initialised, or (from `use`, `say`) refuses a voice or a text.
    """

    def __init__(self) -> None:
        self._library = ctypes.CDLL(str(espeakng_loader.get_library_path()))
        self._chunks: list[bytes] = []
        # Kept on the object: the library calls it for as long as it lives, and ctypes does not keep it.
        self._callback = _Callback(self._receive)
        data = Path(espeakng_loader.get_data_path())
        if len(os.fsencode(data)) > _LONGEST_PATH:
            # Kept on the object too: voices are read from there as they are asked for.
            self._folder = tempfile.TemporaryDirectory(prefix="espeak-")
            link = Path(self._folder.name) / data.name
            link.symlink_to(data)
            data = link
        self.rate = self._initialise(data)
        self._library.espeak_SetSynthCallback(self._callback)

    def _initialise(self, data: Path) -> int:
        rate = int(self._library.espeak_Initialize(_SYNCHRONOUS, _BUFFER_MS, os.fsencode(data), _DONT_EXIT))
        if rate <= 0:
            raise RuntimeError(f"eSpeak NG cannot be initialised with the data in {data} (code {rate})")
        return rate

    def _receive(self, samples: int | None, count: int, events: int | None) -> int:
        if samples and count > 0:
            self._chunks.append(ctypes.string_at(samples, 2 * count))
        return 0

    def use(self, voice: Voice) -> None:
        """Speak as ``voice`` from now on."""
        if code := self._library.espeak_SetVoiceByName(voice.name.encode()):
            raise RuntimeError(f"eSpeak NG has no voice '{voice.name}' (code {code})")
        # The breath in some voices (f2, f5) is libc's rand(), which eSpeak seeds with the time of day when it starts.
        self._library.espeak_ng_SetRandSeed(ctypes.c_long(1))
        # After the voice, which brings settings of its own.
        self._library.espeak_SetParameter(_VOLUME, _LOUDNESS, 0)
        self.prosody(voice.pitch, voice.rate)

    def prosody(self, pitch: int, rate: int) -> None:
        """Speak at another pitch (0 to 100) and rate (words per minute) from now on."""
        self._library.espeak_SetParameter(_PITCH, pitch, 0)
        self._library.espeak_SetParameter(_RATE, rate, 0)

    def say(self, text: str) -> npt.NDArray[np.int16]:
        """The speech of ``text`` in the current voice: mono samples at `rate`, never empty."""
        self._chunks.clear()
        encoded = text.encode()
        code = self._library.espeak_Synth(encoded, ctypes.c_size_t(len(encoded) + 1), 0, 1, 0, _UTF8, None, None)
        samples = np.frombuffer(b"".join(self._chunks), dtype=np.int16)
        if code or not samples.any():
            raise RuntimeError(f"eSpeak NG said nothing for '{text}' (code {code})")
        return samples
