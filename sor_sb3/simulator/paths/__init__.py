"""How the market moves when we do nothing: one file for each kind of path, and here the choice between them.

A path lives on its own clock of ticks. It lays its state at a tick into the blocks, with what the feeds show at a
decision, and answers what is in force so many milliseconds into the tick. It never reads our actions. Kernels are
compiled once for markets without a `recording` (None) and once for replays. Prices are relative to the midpoint at
arrival, without our own push of it.
"""

from __future__ import annotations

import math
from typing import Any

from numba import njit

from sor_sb3.simulator.paths import notebook, replay, synthetic
from sor_sb3.simulator.random import mix64
from sor_sb3.simulator.state import SYNTHETIC, lanes

SCRATCH = synthetic.SCRATCH

_begin_synthetic, _advance_synthetic = synthetic.begin, synthetic.advance
_begin_replay, _advance_replay = replay.begin, replay.advance
_synthetic_touch, _replay_touch = synthetic.synthetic_touch, replay.replay_touch
_synthetic_near_shares, _replay_near_shares = synthetic.synthetic_near_shares, replay.replay_near_shares
_synthetic_fallen_ms, _replay_fallen_ms = synthetic.synthetic_fallen_ms, replay.replay_fallen_ms
_synthetic_price, _replay_price = synthetic.synthetic_price, replay.replay_price
_synthetic_midpoint = synthetic.synthetic_midpoint
_advance_notebook = notebook.advance


@njit
def touch_at(
    block: Any, i: int, j: int, market: Any, recording: Any, elapsed_ms: float
) -> tuple[float, float, float, int]:
    """The quote of lane `j` in force `elapsed_ms` into the tick: far and near touch, displayed size, and its tick.

    The size is 0 where a recorded venue does not quote. The tick addresses what is drawn for the quote (of a replay,
    the row).
    """
    if recording is None:
        return _synthetic_touch(block, i, j, market, elapsed_ms)
    else:
        return _replay_touch(block, i, j, market, recording, elapsed_ms)


@njit
def near_shares_at(block: Any, i: int, j: int, market: Any, recording: Any, elapsed_ms: float) -> float:
    """Displayed size at the near touch of lane `j`, `elapsed_ms` into the tick."""
    if recording is None:
        return _synthetic_near_shares(block, i, j, market, elapsed_ms)
    else:
        return _replay_near_shares(block, i, j, market, recording, elapsed_ms)


@njit
def fallen_ms(block: Any, i: int, j: int, market: Any, recording: Any, price_bps: float, from_ms: float) -> float:
    """When, in the tick and after `from_ms`, all that rests at a price of lane `j` is traded through; inf: never."""
    if recording is None:
        return _synthetic_fallen_ms(block, i, market, price_bps, from_ms)
    else:
        return _replay_fallen_ms(block, i, j, market, recording, price_bps, from_ms)


@njit
def price_at(block: Any, i: int, market: Any, recording: Any, elapsed_ms: float) -> float:
    """The efficient price `elapsed_ms` into the tick; of a replay, the consolidated midpoint."""
    if recording is None:
        return _synthetic_price(block, i, market, elapsed_ms)
    else:
        return _replay_price(block, i, market, recording, elapsed_ms)


@njit
def _recorded_midpoint(
    block: Any, i: int, fixed: Any, market: Any, recording: Any, elapsed_ms: float
) -> tuple[float, bool]:
    ask_bps, bid_bps = math.inf, -math.inf
    for j in lanes(i, market):
        if fixed.dark[j] == 0.0 and block.open[j] == 1.0:
            far_bps, near_bps, shares, _ = _replay_touch(block, i, j, market, recording, elapsed_ms)
            if shares > 0.0:
                ask_bps, bid_bps = min(ask_bps, far_bps), max(bid_bps, near_bps)
    if ask_bps == math.inf or bid_bps == -math.inf:
        return _replay_price(block, i, market, recording, elapsed_ms), False
    return 0.5 * (ask_bps + bid_bps), bid_bps < ask_bps


@njit
def midpoint_at(block: Any, i: int, fixed: Any, market: Any, recording: Any, elapsed_ms: float) -> tuple[float, bool]:
    """The midpoint of the best quotes of open venues in force, and whether anything trades there.

    Nothing does where these quotes lock or cross, or where nobody quotes: the midpoint is then the efficient price.
    """
    if recording is None:
        return _synthetic_midpoint(block, i, fixed, market, elapsed_ms)
    else:
        return _recorded_midpoint(block, i, fixed, market, recording, elapsed_ms)


@njit
def begin_path(block: Any, i: int, fixed: Any, market: Any, recording: Any) -> None:
    """Draw the state in which a new episode finds the market. All fields of order `i` are zero but `order_key`."""
    for j in lanes(i, market):
        block.venue_key[j] = mix64(block.order_key[i] ^ fixed.name_key[j])
    if recording is None:
        if market.model == SYNTHETIC:
            _begin_synthetic(block, i, fixed, market)
    else:
        _begin_replay(block, i, fixed, market, recording)


@njit
def advance_paths(
    block: Any, i: int, n: int, fixed: Any, market: Any, recording: Any, scratch: Any, observes: bool
) -> None:
    """Move the markets of the orders ``i .. i + n - 1`` of a block to their `tick`, whatever we did.

    A tick at which a decision falls `observes` the quotes that the feeds show.
    """
    if recording is None:
        if market.model == SYNTHETIC:
            _advance_synthetic(block, i, n, fixed, market, scratch, observes)
        else:
            for member in range(i, i + n):
                _advance_notebook(block, member, market)
    else:
        for member in range(i, i + n):
            _advance_replay(block, member, fixed, market, recording)
