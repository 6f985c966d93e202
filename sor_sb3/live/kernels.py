"""What a desk's events mean, said with the simulator's own kernels: there is no second way to count shares here.

The state is that of one order, whose public fields events have filled; a path, costs and hidden fields it has none.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from sor_sb3.simulator.book import observed_level
from sor_sb3.simulator.compiled import entry_point
from sor_sb3.simulator.execution import (
    WORK,
    begin_order,
    begin_wave,
    end_decision,
    hear_answers,
    mark,
    send_children,
)
from sor_sb3.simulator.observing import observe_midpoint
from sor_sb3.simulator.paths.replay import guess_unheard
from sor_sb3.simulator.state import RESTS, blank

UNANSWERED_MS, ANSWERED_MS = math.inf, -1.0  # in place of when a child's answer is due


@entry_point()
def begin(state: Any) -> None:
    """A new order, of which nothing is done."""
    blank(state.words, 0, 0, state.market[0].n_venues)
    begin_order(state.blocks[0], 0, state.market[0])


@entry_point()
def send(state: Any, weights: Any, pace: Any, rest: Any) -> None:
    """Turn weights (N, K), paces (N,) and resting weights (N, K), or (0, 0), into children and resting orders."""
    work, drawn, per_block = np.empty(1, WORK), state.market.size > 1, state.market[0].block_orders
    for member in range(len(pace)):
        b, i = member // per_block, member % per_block
        block, fixed, market = state.blocks[b], state.venues[b if drawn else 0], state.market[member if drawn else 0]
        send_children(block, i, 1, fixed, market, weights.reshape(-1), pace, rest.reshape(-1), member, work[0])
        for j in range(i * market.n_venues, (i + 1) * market.n_venues):
            if block.sent_shares[j] > 0.0:
                block.child_answers_ms[j] = UNANSWERED_MS


@entry_point()
def next_wave(state: Any, elapsed_ms: float) -> None:
    """Begin a later wave of the decision with the answers that have been heard."""
    block, market = state.blocks[0], state.market[0]
    block.returned_shares[0] = hear_answers(block, 0, market, elapsed_ms)
    mark(block, 0, state.venues[0], market, 0.0, 0.0, False)
    begin_wave(block, 0, market, elapsed_ms)


@entry_point()
def next_decision(state: Any) -> None:
    """End a decision with the answers that have been heard, and begin the next."""
    block, market = state.blocks[0], state.market[0]
    hear_answers(block, 0, market, 0.0)
    end_decision(block, 0, state.venues[0], market)


@entry_point()
def see(state: Any, opening: bool) -> None:
    """Take the quotes that have been laid down as what is observed now."""
    block, market = state.blocks[0], state.market[0]
    if opening:
        guess_unheard(block, 0, market)
    observe_midpoint(block, 0, state.venues[0], market)


@entry_point()
def levels_behind(state: Any, price_bps: Any, shares: Any) -> None:
    """Write what a path's observed books show behind the touch into arrays (N, K, L), level 0 left out; 0: nothing."""
    drawn, per_block = state.market.size > 1, state.market[0].block_orders
    for member in range(len(shares)):
        b, i = member // per_block, member % per_block
        block, fixed, market = state.blocks[b], state.venues[b if drawn else 0], state.market[member if drawn else 0]
        for k in range(market.n_venues):
            j = i * market.n_venues + k
            if fixed.dark[j] == 0.0 and block.open[j] == 1.0:
                for level in range(1, market.n_levels):
                    shown = observed_level(block, i, j, fixed, market, state.recording, level)
                    price_bps[member, k, level], shares[member, k, level] = shown


def orders_at(k: int) -> slice:
    """Where the resting orders of venue `k` lie in fields of them."""
    return slice(k * RESTS, (k + 1) * RESTS)
