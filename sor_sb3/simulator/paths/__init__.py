"""How the market moves when we do nothing: one file for each kind of path, and here the choice between them.

A path writes, at every decision, what the router observes (quotes, sizes, status, volume) and what a child sent now
will meet (latency, move of the far touch, size at arrival) into the state. It never reads our actions. Kernels are
compiled once for markets without a `recording` (None) and once for replays.
"""

from __future__ import annotations

from typing import Any

from numba import njit

from sor_sb3.simulator.paths import notebook, replay, synthetic
from sor_sb3.simulator.random import mix64
from sor_sb3.simulator.state import SYNTHETIC, lanes

SCRATCH = synthetic.SCRATCH

_begin_synthetic, _advance_synthetic = synthetic.begin, synthetic.advance
_begin_replay, _advance_replay = replay.begin, replay.advance
_synthetic_arrival, _replay_arrival = synthetic.synthetic_arrival, replay.replay_arrival
_advance_notebook = notebook.advance


@njit
def arrival_state(
    block: Any, i: int, j: int, market: Any, recording: Any, elapsed_ms: float
) -> tuple[float, float, float]:
    """What a child of order `i` finds in lane `j` if it arrives `elapsed_ms` after this step's decision.

    Returns the far touch's move (bps) since the decision, displayed size and hidden size (shares), before fade and
    before what we took. At the venue's own latency these are `touch_move_bps`, `arrival_size_shares` and
    `hidden_shares` of the lane.
    """
    if recording is None:
        return _synthetic_arrival(block, i, j, market, elapsed_ms)
    else:
        move_bps, shares = _replay_arrival(block, i, j, market, recording, elapsed_ms)
        return move_bps, shares, 0.0


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
def advance_paths(block: Any, i: int, n: int, fixed: Any, market: Any, recording: Any, scratch: Any) -> None:
    """Move the markets of the orders ``i .. i + n - 1`` of a block to their decision `step`, whatever we did."""
    if recording is None:
        if market.model == SYNTHETIC:
            _advance_synthetic(block, i, n, fixed, market, scratch)
        else:
            for member in range(i, i + n):
                _advance_notebook(block, member, market)
    else:
        for member in range(i, i + n):
            _advance_replay(block, member, fixed, market, recording)
