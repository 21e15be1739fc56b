"""One self-contained HTML page of a search or a comparison: opens from disk, asks the network for nothing."""

from audio_lottery.report.page.read import RunGroup, make_group, read_group
from audio_lottery.report.page.write import ExtraTable, write_page

__all__ = ["ExtraTable", "RunGroup", "make_group", "read_group", "write_page"]
