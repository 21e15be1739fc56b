"""Inner loops, compiled for this machine by numba; flat arrays in, flat arrays out."""
