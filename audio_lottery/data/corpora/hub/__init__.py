"""Speech datasets on the Hub, or in parquet files of the same shape: streamed, or kept on disk.

Audio is never decoded by ``datasets``, whose audio feature needs torchcodec: its bytes go to files, and those are read
like the files of every other corpus. The Hub is reached through huggingface_hub, so HF_ENDPOINT, HF_HUB_OFFLINE and
the login of ``hf auth login`` hold.
"""

from audio_lottery.data.corpora.hub.rows import StreamedUtterance, stream_rows
from audio_lottery.data.corpora.hub.store import load_hub, prepare_hub, stream_windows

__all__ = ["StreamedUtterance", "load_hub", "prepare_hub", "stream_rows", "stream_windows"]
