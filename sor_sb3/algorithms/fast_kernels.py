"""The compiled forward pass of a translated policy: one walk along a tape of layers, for one row or many.

It knows neither torch nor files, and trusts its tape: `sor_sb3.algorithms.fast_policy` checks shapes and writes it.

A tape is one flat float32 array, since every array that Python hands to a kernel costs time. Its first `HEADER` numbers
are the widest layer, and the scratch that is needed once and for each row; then come the layers, each a header (code,
width in, width out, settings, and last the length of its arrays) and its arrays, each padded to whole headers.

Matrices lie flat in such arrays and are told by where they begin: a slice that goes from one function to another is
counted as a reference, which for a single row costs more than the arithmetic. Where time matters indices are unsigned,
as in `sor_sb3.simulator.paths`, so that loops become vectors.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

from sor_sb3.simulator.compiled import entry_point
from sor_sb3.simulator.elementary import exp, log

HEADER = 16  # numbers; 64 bytes, so that arrays begin where a cache line does
DENSE, ACTIVATE, STANDARDISE, LSTM, VENUES, PROPORTIONS, SIMPLEX, CLIP, SCALE, ARGMAX = range(10)
TANH, RELU, LEAKY_RELU, ELU, SILU, GELU, GELU_TANH, SIGMOID, HARDTANH = range(9)
_BLOCK = 128  # rows that go through the layers together, so that their latents stay in the cache
_ROWS_FOR_BLAS = 4
_1, _2, _3, _4, _5, _6, _7, _8 = (np.uint64(k) for k in range(1, 9))

# "contract" lets a product and the sum it goes into be rounded once; "reassoc" lets a reduction be summed in parts.
# Both round less than one sum after the other, and neither assumes that there are no infinities and NaN.
_CONTRACT = {"contract"}
_REDUCE = {"contract", "reassoc"}


# ---------------------------------------------------------------------------------------------- matrix products


@njit(inline="always")
def _row(flat: Any, at: int, i: int, width: int) -> Any:
    return flat[at + i * width : at + (i + 1) * width]


@njit(inline="always")
def _matrix(flat: Any, at: int, n: int, width: int) -> Any:
    return flat[at : at + n * width].reshape(n, width)


@njit(fastmath=_CONTRACT, error_model="numpy")
def _add_row_product(room: Any, x_at: int, width_in: int, tape: Any, at: int, out_at: int, width: int) -> None:
    """``out += x @ weights`` for one row, eight numbers of it at a time, which also rounds less than one by one."""
    x, w0, out, step = np.uint64(x_at), np.uint64(at), np.uint64(out_at), np.uint64(width)
    for _ in range(width_in // 8):
        a0, a1, a2, a3 = room[x], room[x + _1], room[x + _2], room[x + _3]
        a4, a5, a6, a7 = room[x + _4], room[x + _5], room[x + _6], room[x + _7]
        w1 = w0 + step
        w2 = w1 + step
        w3 = w2 + step
        w4 = w3 + step
        w5 = w4 + step
        w6 = w5 + step
        w7 = w6 + step
        for j in range(step):
            four = ((a0 * tape[w0 + j] + a1 * tape[w1 + j]) + a2 * tape[w2 + j]) + a3 * tape[w3 + j]
            other = ((a4 * tape[w4 + j] + a5 * tape[w5 + j]) + a6 * tape[w6 + j]) + a7 * tape[w7 + j]
            room[out + j] += four + other
        x, w0 = x + _8, w7 + step
    for _ in range(width_in % 8):
        a0 = room[x]
        for j in range(step):
            room[out + j] += a0 * tape[w0 + j]
        x, w0 = x + _1, w0 + step


@njit(error_model="numpy")
def _affine(
    n: int, room: Any, x_at: int, width_in: int, bias: Any, bias_at: int, tape: Any, at: int, out_at: int, width: int
) -> None:
    """``out = x @ weights + bias`` for n rows; the weights (width_in, width) are on the tape.

    BLAS is for several rows only: for one its overhead is as long as the work, and the threads that it may use from a
    quarter of a million products on would sooner or later make a decision wait for milliseconds. The venues of one
    order are several rows, but fewer products.
    """
    if n >= _ROWS_FOR_BLAS:
        out = _matrix(room, out_at, n, width)
        np.dot(_matrix(room, x_at, n, width_in), _matrix(tape, at, width_in, width), out)
        for r in range(n):
            _add(room, out_at + r * width, bias, bias_at, width)
    else:
        for r in range(n):
            _copy(bias, bias_at, room, out_at + r * width, width)
            _add_row_product(room, x_at + r * width_in, width_in, tape, at, out_at + r * width, width)


@njit(error_model="numpy")
def _copy(source: Any, at: int, room: Any, out_at: int, size: int) -> None:
    row, out = np.uint64(at), np.uint64(out_at)
    for j in range(np.uint64(size)):
        room[out + j] = source[row + j]


@njit(error_model="numpy")
def _add(room: Any, at: int, source: Any, source_at: int, size: int) -> None:
    out, row = np.uint64(at), np.uint64(source_at)
    for j in range(np.uint64(size)):
        room[out + j] += source[row + j]


@njit(fastmath=_REDUCE, error_model="numpy")
def _dot(x: Any, x_at: int, tape: Any, at: int, width: int) -> Any:
    total, row, weights = np.float32(0.0), np.uint64(x_at), np.uint64(at)
    for j in range(np.uint64(width)):
        total += x[row + j] * tape[weights + j]
    return total


@njit(fastmath={"reassoc"}, error_model="numpy")
def _is_finite(values: Any, at: int, size: int) -> bool:
    total, row = np.float32(0.0), np.uint64(at)
    for j in range(np.uint64(size)):
        total += np.float32(0.0) * values[row + j]  # NaN for an infinity, too
    return total == 0.0


# -------------------------------------------------------------------------------------------------- activations
# Exponentials are float64 inside: hidden units that are off by a few float32 steps would show in the actions.


@njit(inline="always")
def _tanh(x: Any) -> float:
    t = exp(-2.0 * abs(np.float64(x)))
    y = (1.0 - t) / (1.0 + t)
    return y if x >= 0.0 else -y


@njit(inline="always")
def _sigmoid(x: Any) -> float:
    t = exp(-abs(np.float64(x)))
    return (1.0 if x >= 0.0 else t) / (1.0 + t)


@njit(error_model="numpy")
def _one_exp(x: float) -> float:
    return exp(x)


@njit(error_model="numpy", fastmath=_CONTRACT)
def _tanh_all(values: Any, at: int, size: int) -> None:
    first = np.uint64(at)
    last = first + np.uint64(size)
    for j in range(first, last):
        values[j] = _tanh(values[j])


@njit(error_model="numpy", fastmath=_CONTRACT)
def _sigmoid_all(values: Any, at: int, size: int) -> None:
    first = np.uint64(at)
    last = first + np.uint64(size)
    for j in range(first, last):
        values[j] = _sigmoid(values[j])


@njit(error_model="numpy")
def _gelu(x: float, exactly: bool) -> float:
    if exactly:
        return 0.5 * x * (1.0 + math.erf(x * math.sqrt(0.5)))
    return 0.5 * x * (1.0 + math.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x * x * x)))


@njit(error_model="numpy", fastmath=_CONTRACT)
def _activate(values: Any, at: int, size: int, function: int, a: Any, b: Any) -> None:
    """Apply a function in place to `size` numbers; `a` and `b` are its settings."""
    first = np.uint64(at)
    last = first + np.uint64(size)
    if function == TANH:
        _tanh_all(values, at, size)
    elif function == RELU:
        for j in range(first, last):
            values[j] = max(values[j], np.float32(0.0))
    elif function == LEAKY_RELU:
        for j in range(first, last):
            values[j] = values[j] if values[j] > 0.0 else a * values[j]
    elif function == HARDTANH:
        for j in range(first, last):
            values[j] = min(max(values[j], a), b)
    elif function == SIGMOID:
        _sigmoid_all(values, at, size)
    elif function == SILU:
        for j in range(first, last):
            values[j] = values[j] * _sigmoid(values[j])
    elif function == ELU:
        for j in range(first, last):
            values[j] = values[j] if values[j] > 0.0 else a * (exp(np.float64(min(values[j], np.float32(0.0)))) - 1.0)
    else:
        for j in range(first, last):
            values[j] = _gelu(np.float64(values[j]), function == GELU)


# ------------------------------------------------------------------------------------------------------- layers


@njit(inline="always")
def _padded(size: int) -> int:
    return (size + HEADER - 1) // HEADER * HEADER


@njit(error_model="numpy")
def _standardise(n: int, room: Any, x_at: int, width: int, tape: Any, at: int, limit: float) -> None:
    """``(x - mean) * scale + shift`` within +-limit; in float64, for a feature that never varies has a huge scale."""
    numbers = tape[at : at + 6 * width].view(np.float64)
    for r in range(n):
        row = _row(room, x_at, r, width)
        for j in range(width):
            y = (np.float64(row[j]) - numbers[j]) * numbers[width + j] + numbers[2 * width + j]
            row[j] = min(max(y, -limit), limit)


@njit(error_model="numpy")
def _lstm(
    n: int,
    room: Any,
    x_at: int,
    out_at: int,
    work_at: int,
    width: int,
    tape: Any,
    at: int,
    size: int,
    state: Any,
    h_at: int,
    c_at: int,
) -> None:
    """One layer, one step; hidden and cell states (n, H) are replaced. Gates lie as torch has them: i, f, g, o."""
    four, both = 4 * size, width + size
    gates_at = work_at + n * both
    for r in range(n):
        _copy(room, x_at + r * width, room, work_at + r * both, width)
        _copy(state, h_at + r * size, room, work_at + r * both + width, size)
    _affine(n, room, work_at, both, tape, at, tape, at + _padded(four), gates_at, four)
    for r in range(n):
        gates, y = gates_at + r * four, out_at + r * size
        _sigmoid_all(room, gates, 2 * size)
        _tanh_all(room, gates + 2 * size, size)
        _sigmoid_all(room, gates + 3 * size, size)
        enter, keep = _row(room, gates, 0, size), _row(room, gates, 1, size)
        new, show = _row(room, gates, 2, size), _row(room, gates, 3, size)
        cell, hidden, out = _row(state, c_at, r, size), _row(state, h_at, r, size), _row(room, y, 0, size)
        for j in range(size):
            cell[j] = keep[j] * cell[j] + enter[j] * new[j]
            out[j] = cell[j]
        _tanh_all(room, y, size)
        for j in range(size):
            out[j] = out[j] * show[j]
            hidden[j] = out[j]


@njit(error_model="numpy")
def _add_what_displays_suggest(
    room: Any, venues_at: int, time_left: float, tape: Any, head: int, out_at: int, n_venues: int, features: int
) -> None:
    """The prior of `sor_sb3.algorithms.policies.VenueExtractor`, same constants."""
    share, dark = venues_at + int(tape[head + 10]), venues_at + int(tape[head + 11])
    largest = np.float32(1e-6)
    for k in range(n_venues):
        largest = max(largest, room[share + k * features])
    for k in range(n_venues):
        prior = np.float64(room[share + k * features]) / largest + 0.03 * time_left * room[dark + k * features]
        room[out_at + k] += log(max(prior, 0.0) + 0.003)


@njit(error_model="numpy")
def _mean_of_rows(n: int, room: Any, at: int, width: int, out_at: int) -> None:
    out = _row(room, out_at, 0, width)
    for j in range(width):
        out[j] = np.float32(0.0)
    for k in range(n):
        row = _row(room, at, k, width)
        for j in range(width):
            out[j] += row[j]
    for j in range(width):
        out[j] /= np.float32(n)


@njit(error_model="numpy")
def _venues(n: int, room: Any, x_at: int, out_at: int, work_at: int, tape: Any, head: int) -> None:
    """The shared network: market row to each venue, twice activated, to a score a venue and perhaps a pace.

    Settings: venues K, market features G, venue features F, hidden H, activation and its two settings, and where share
    (-1: no prior), darkness, openness (-1: closed venues score like others) and time left are.
    """
    width, width_out = int(tape[head + 1]), int(tape[head + 2])
    n_venues, g, f, hidden = int(tape[head + 3]), int(tape[head + 4]), int(tape[head + 5]), int(tape[head + 6])
    function, a, b = int(tape[head + 7]), tape[head + 8], tape[head + 9]
    is_open, time_left = int(tape[head + 12]), int(tape[head + 13])
    vector, square = _padded(hidden), _padded(hidden * hidden)
    market_bias = head + HEADER
    market = market_bias + vector
    venue = market + _padded(g * hidden)
    mark = venue + _padded(f * hidden)
    second_bias = mark + _padded(n_venues * hidden)
    second = second_bias + vector
    pooled = second + square
    score = pooled + square
    pace = score + _padded(hidden + 1)

    size = n_venues * hidden
    first_at, second_at = work_at, work_at + size
    shared_at, mean_at = second_at + size, second_at + size + hidden
    for r in range(n):
        row, scores = x_at + r * width, out_at + r * width_out
        _affine(1, room, row, g, tape, market_bias, tape, market, shared_at, hidden)
        _affine(n_venues, room, row + g, f, room, shared_at, tape, venue, first_at, hidden)
        _add(room, first_at, tape, mark, size)
        _activate(room, first_at, size, function, a, b)
        _mean_of_rows(n_venues, room, first_at, hidden, mean_at)
        _affine(1, room, mean_at, hidden, tape, second_bias, tape, pooled, shared_at, hidden)
        _affine(n_venues, room, first_at, hidden, room, shared_at, tape, second, second_at, hidden)
        _activate(room, second_at, size, function, a, b)
        for k in range(n_venues):
            room[scores + k] = _dot(room, second_at + k * hidden, tape, score, hidden) + tape[score + hidden]
        if tape[head + 10] >= 0.0:
            _add_what_displays_suggest(room, row + g, room[row + time_left], tape, head, scores, n_venues, f)
        if is_open >= 0:
            for k in range(n_venues):
                if not room[row + g + k * f + is_open] > 0.5:
                    room[scores + k] = -math.inf
        if width_out > n_venues:
            _mean_of_rows(n_venues, room, second_at, hidden, mean_at)
            room[scores + n_venues] = _dot(room, mean_at, tape, pace, hidden) + tape[pace + hidden]


@njit(error_model="numpy")
def _proportions(n: int, room: Any, x_at: int, width: int, n_venues: int) -> None:
    """Logits to parts of the largest, and a pace to its tanh."""
    for r in range(n):
        row = _row(room, x_at, r, width)
        largest = row[0]
        for k in range(1, n_venues):
            largest = max(largest, row[k])
        for k in range(n_venues):
            row[k] = _one_exp(np.float64(row[k] - largest))
    if width > n_venues:
        for r in range(n):
            _tanh_all(room, x_at + r * width + n_venues, 1)


@njit(error_model="numpy")
def _simplex(n: int, room: Any, x_at: int, width: int, n_venues: int) -> None:
    """Scores to their softmax over the venues that are open, even where none is; a pace p to 2 softmax(p, 0) - 1."""
    for r in range(n):
        row = _row(room, x_at, r, width)
        largest, total = -math.inf, 0.0
        for k in range(n_venues):
            largest = max(largest, np.float64(row[k]))
        for k in range(n_venues):
            part = _one_exp(np.float64(row[k]) - largest) if largest > -math.inf else 1.0
            row[k] = part
            total += part
        for k in range(n_venues):
            row[k] = row[k] / total
        if width > n_venues:
            row[n_venues] *= np.float32(0.5)  # 2 sigmoid(p) - 1 = tanh(p / 2)
            _tanh_all(room, x_at + r * width + n_venues, 1)


@njit(error_model="numpy")
def _into_bounds(
    n: int, room: Any, x_at: int, width: int, tape: Any, at: int, stretches: bool, out: Any, out_at: int
) -> None:
    """Clip to [low, high], or map [-1, 1] onto it, as SB3 does."""
    low, high = _row(tape, at, 0, width), _row(tape, at + _padded(width), 0, width)
    for r in range(n):
        row, action = _row(room, x_at, r, width), _row(out, out_at, r, width)
        if stretches:
            for j in range(width):
                action[j] = low[j] + np.float32(0.5) * (row[j] + np.float32(1.0)) * (high[j] - low[j])
        else:
            for j in range(width):
                action[j] = min(max(row[j], low[j]), high[j])


@njit(error_model="numpy")
def _best(n: int, room: Any, x_at: int, width: int, extra: Any, mask_at: int, choices: Any, first: int) -> None:
    """The first of the largest scores; what a mask forbids counts as -1e8, as in sb3-contrib."""
    masked = extra.size > 0
    for r in range(n):
        best, choice = -np.float32(math.inf), 0
        for j in range(width):
            value = room[x_at + r * width + j]
            if masked and extra[mask_at + r * width + j] == 0.0:
                value = np.float32(-1e8)
            if value > best:
                best, choice = value, j
        choices[first + r] = choice


# --------------------------------------------------------------------------------------------------- entry point


@njit(error_model="numpy")
def _walk(
    n: int, first: int, n_all: int, room: Any, block: int, tape: Any, extra: Any, actions: Any, choices: Any
) -> bool:
    """Put rows `first` to `first + n` through every layer; False where the result is no number."""
    x_at, y_at = 0, block * int(tape[0])
    work_at = 2 * y_at
    head, layer_at = HEADER, 0
    while True:
        code, width, width_out = int(tape[head]), int(tape[head + 1]), int(tape[head + 2])
        at = head + HEADER
        if code == DENSE:
            _affine(n, room, x_at, width, tape, at, tape, at + _padded(width_out), y_at, width_out)
            x_at, y_at = y_at, x_at
        elif code == ACTIVATE:
            _activate(room, x_at, n * width, int(tape[head + 3]), tape[head + 4], tape[head + 5])
        elif code == STANDARDISE:
            _standardise(n, room, x_at, width, tape, at, np.float64(tape[head + 3]))
        elif code == LSTM:
            h_at, c_at = layer_at + first * width_out, layer_at + extra.size // 2 + first * width_out
            _lstm(n, room, x_at, y_at, work_at, width, tape, at, width_out, extra, h_at, c_at)
            layer_at += n_all * width_out
            x_at, y_at = y_at, x_at
        elif code == VENUES:
            _venues(n, room, x_at, y_at, work_at, tape, head)
            x_at, y_at = y_at, x_at
        elif code == PROPORTIONS:
            _proportions(n, room, x_at, width, int(tape[head + 3]))
        elif code == SIMPLEX:
            _simplex(n, room, x_at, width, int(tape[head + 3]))
        else:  # the last layer: CLIP, SCALE or ARGMAX
            if code == ARGMAX:
                _best(n, room, x_at, width, extra, first * width, choices, first)
            else:
                _into_bounds(n, room, x_at, width, tape, at, code == SCALE, actions, first * width)
            return _is_finite(room, x_at, n * width)
        head = at + int(tape[at - 1])


# The lock of the interpreter is kept: who lets it go for a microsecond may wait milliseconds to have it back, and a
# live process would see that in its slowest decisions.
@entry_point(error_model="numpy")
def decide(observations: Any, tape: Any, extra: Any, actions: Any, choices: Any) -> bool:
    """Actions of n rows; False where an observation or a result is infinite or NaN (the outputs are then undefined).

    Args:
        observations: float32 (n * D,), rows one after the other.
        tape: float32, as told above.
        extra: float32: hidden and cell states (2 * layers * n * H,) of an LSTM, replaced by the next; or masks
            (n * A,), 0 where forbidden; else empty.
        actions: float32 (n * A,), written where actions are continuous.
        choices: int64 (n,), written where they are discrete.
    """
    width = int(tape[HEADER + 1])
    n = observations.size // width
    if not _is_finite(observations, 0, observations.size):
        return False
    block = min(n, _BLOCK)
    room = np.empty(2 * block * int(tape[0]) + int(tape[1]) + block * int(tape[2]), dtype=np.float32)
    for first in range(0, n, _BLOCK):
        rows = min(_BLOCK, n - first)
        _copy(observations, first * width, room, 0, rows * width)
        if not _walk(rows, first, n, room, block, tape, extra, actions, choices):
            return False
    return True
