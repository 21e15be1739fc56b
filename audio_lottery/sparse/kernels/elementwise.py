"""What lies between the products, on tiles [features, FRAMES]: activations and layer normalisation.

Frames lie in the lanes, so that sums over features are plain vector additions. GELU is that of `vector.erf`.
"""

import numpy as np
from numba import njit

from audio_lottery.sparse.kernels.vector import (
    WIDTH,
    add,
    divide,
    exp,
    fma,
    gelu,
    load,
    maximum,
    multiply,
    rough_gelu,
    splat,
    square_root,
    store,
    subtract,
)

F = np.float32
# What a product's rows go through on their way out.
ACTIVATIONS = {"none": 0, "gelu": 1, "relu": 2, "silu": 4}
# The same where what comes out is rounded anyhow.
ROUGH_ACTIVATIONS = ACTIVATIONS | {"gelu": 3}


@njit(inline="always")
def sigmoid(x):
    """1 / (1 + e^-x), to about 1e-7."""
    one = splat(F(1.0))
    return divide(one, add(one, exp(subtract(splat(F(0.0)), x))))


@njit(nogil=True, cache=True)
def activate(kind, tile, origin, rows, stride, vectors):
    """An activation (`ACTIVATIONS`, `ROUGH_ACTIVATIONS`) in place on ``rows`` rows, ``stride`` apart."""
    if kind == 1:
        for row in range(rows):
            for part in range(origin + row * stride, origin + row * stride + vectors * WIDTH, WIDTH):
                store(tile, part, gelu(load(tile, part)))
    elif kind == 2:
        for row in range(rows):
            for part in range(origin + row * stride, origin + row * stride + vectors * WIDTH, WIDTH):
                store(tile, part, maximum(splat(F(0.0)), load(tile, part)))
    elif kind == 3:
        for row in range(rows):
            for part in range(origin + row * stride, origin + row * stride + vectors * WIDTH, WIDTH):
                store(tile, part, rough_gelu(load(tile, part)))
    elif kind == 4:
        for row in range(rows):
            for part in range(origin + row * stride, origin + row * stride + vectors * WIDTH, WIDTH):
                x = load(tile, part)
                store(tile, part, multiply(x, sigmoid(x)))


@njit(nogil=True, cache=True)
def layer_norm(source, origin, out, target, features, stride, weight, bias, epsilon, vectors):
    """Normalise every frame over its features, rows ``stride`` apart: mean first, then variance; may be in place."""
    share = splat(F(1.0) / F(features))
    for part in range(0, vectors * WIDTH, WIDTH):
        read = origin + part
        total = splat(F(0.0))
        for feature in range(features):
            total = add(total, load(source, read + feature * stride))
        mean = multiply(total, share)
        squares = splat(F(0.0))
        for feature in range(features):
            centred = subtract(load(source, read + feature * stride), mean)
            squares = fma(centred, centred, squares)
        scale = divide(splat(F(1.0)), square_root(fma(squares, share, splat(F(epsilon)))))
        for feature in range(features):
            centred = multiply(subtract(load(source, read + feature * stride), mean), scale)
            store(out, target + part + feature * stride, fma(centred, splat(weight[feature]), splat(bias[feature])))
