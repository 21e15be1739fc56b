"""The precisions of the sparse runtime, and which of them this machine has."""

PRECISIONS = ("float32", "bfloat16", "int8")
