"""What will be uploaded, as text."""

from collections.abc import Mapping

from audio_lottery.report.columns import format_columns


def format_upload(files: Mapping[str, int], repo: str, branch: str, private: bool) -> str:
    """Files and their bytes, and where they go."""
    rows = [*((name, f"{size:,}") for name, size in files.items()), ("in all", f"{sum(files.values()):,}")]
    kind = "private" if private else "public"
    return f"to {repo}, branch {branch} ({kind}):\n\n{format_columns(['file', 'bytes'], rows, left=1)}"
