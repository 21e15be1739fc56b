"""One file per verb of `audio-lottery`: its options, and the call into the package."""
