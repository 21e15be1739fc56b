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


@njit(inline="always")
def _plus_square(total, x, mean):
    centred = subtract(x, mean)
    return fma(centred, centred, total)


@njit(nogil=True, cache=True)
def layer_norm(source, origin, out, target, features, stride, weight, bias, epsilon, vectors):
    """Normalise every frame over its features, rows ``stride`` apart: mean first, then variance; may be in place."""
    share = splat(F(1.0) / F(features))
    fours = features // 4 * 4
    for part in range(0, vectors * WIDTH, WIDTH):
        read = origin + part
        # four sums round less than one, and hide the latency of an addition
        a = splat(F(0.0))
        b = splat(F(0.0))
        c = splat(F(0.0))
        d = splat(F(0.0))
        for place in range(read, read + fours * stride, 4 * stride):
            a = add(a, load(source, place))
            b = add(b, load(source, place + stride))
            c = add(c, load(source, place + 2 * stride))
            d = add(d, load(source, place + 3 * stride))
        for place in range(read + fours * stride, read + features * stride, stride):
            a = add(a, load(source, place))
        mean = multiply(add(add(a, b), add(c, d)), share)
        a = splat(F(0.0))
        b = splat(F(0.0))
        c = splat(F(0.0))
        d = splat(F(0.0))
        for place in range(read, read + fours * stride, 4 * stride):
            a = _plus_square(a, load(source, place), mean)
            b = _plus_square(b, load(source, place + stride), mean)
            c = _plus_square(c, load(source, place + 2 * stride), mean)
            d = _plus_square(d, load(source, place + 3 * stride), mean)
        for place in range(read + fours * stride, read + features * stride, stride):
            a = _plus_square(a, load(source, place), mean)
        squares = add(add(a, b), add(c, d))
        scale = divide(splat(F(1.0)), square_root(fma(squares, share, splat(F(epsilon)))))
        for feature in range(features):
            centred = multiply(subtract(load(source, read + feature * stride), mean), scale)
            store(out, target + part + feature * stride, fma(centred, splat(weight[feature]), splat(bias[feature])))
