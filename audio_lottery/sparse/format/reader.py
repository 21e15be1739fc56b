"""A sparse file read one tensor at a time, so that no more of it lies in memory than is asked for."""

from collections.abc import Iterable
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from audio_lottery.errors import ModelError, reading
from audio_lottery.sparse.format import container, tensors
from audio_lottery.sparse.format.tensors import Entry
from audio_lottery.storage import file_fault

_PIECE = 1 << 22


class SparseFile:
    """``model.sparse.safetensors``, its hash checked, its tensors where they are.

    Args:
        path: of the file.

    Attributes:
        entries: name → what the file says of the tensor.
        tied: name → the name that has the bytes.

    Raises:
        ModelError: missing, damaged, or of a newer version.
    """

    def __init__(self, path: Path) -> None:
        fault = file_fault(path)
        if fault:
            raise ModelError(f"{path} {fault}")
        self.path = path
        with reading(str(path)), path.open("rb") as file:
            length = file.read(8)
            start = length + file.read(int.from_bytes(length, "little"))
            header = container.read_header(start, path)
            container.check_digest(start, iter(lambda: file.read(_PIECE), b""), header, path)
        try:
            self.entries = {name: Entry.from_dict(entry) for name, entry in header["tensors"].items()}
            self.tied = {str(name): str(other) for name, other in header["tied"].items()}
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ModelError(f"{path} cannot be read ({error}); it was not written by audio_lottery") from error

    def names(self) -> set[str]:
        """Of all tensors, tied ones too."""
        return {*self.entries, *self.tied}

    def read(self, names: Iterable[str]) -> dict[str, Tensor]:
        """Some tensors, each bit for bit as it was hashed.

        Raises:
            ModelError: a tensor is not there or is damaged.
        """
        found = {}
        try:
            with safe_open(self.path, "pt") as file:
                stored = set(file.keys())
                for name in names:
                    own = self.tied.get(name, name)
                    parts = [f"{own}{end}" for end in ("", ":positions", ":scales")]
                    held = {part: file.get_tensor(part) for part in parts if part in stored}
                    tensor = tensors.decode(own, self.entries[own], held)
                    # what was stored as it is shares its memory with the file
                    found[name] = tensor.clone() if self.entries[own].coding == tensors.DENSE else tensor
        except (SafetensorError, KeyError, OSError) as error:
            raise ModelError(f"{self.path} cannot be read ({error}); get it again") from error
        return found
