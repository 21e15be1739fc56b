"""Readers: one file per corpus, each turning the official on-disk layout into manifest rows.

A reader is a function ``read(root: Path, split: str) -> Iterator[Utterance]``; `READERS` is the registry that the
configuration's ``corpus`` field selects from.
"""
