"""audio_lottery: winning tickets in speech recognisers, found, measured and published."""

__version__ = "0.1.0"
