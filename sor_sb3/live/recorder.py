"""Scenarios of an env as a desk would have heard them: to test a live path, to rehearse it, and to record it.

What a desk could not hear goes no further than here: events hold quotes as late as their feeds, prints of others,
answers when they are given, and the clock.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from sor_sb3.envs.core import RoutingCore
from sor_sb3.errors import UserError
from sor_sb3.live.events import (
    Acknowledgement,
    Arrival,
    Clock,
    Event,
    Latency,
    OrderReport,
    Quote,
    Status,
    Trade,
)
from sor_sb3.live.kernels import levels_behind, orders_at, send
from sor_sb3.market.spec import NotebookMarket, ReplayMarket
from sor_sb3.simulator.batch import BatchSimulator
from sor_sb3.simulator.state import MOST_LEVELS, REST_FIELDS
from sor_sb3.simulator.views import Truth

Heard = list[Event | Clock]
Fields = dict[str, np.ndarray]

_SENT = "child_shares child_filled_shares child_answers_ms passive_shares elapsed_ms step".split()
_SEEN = (
    "step wave elapsed_ms open dark observed_latency_ms permanent_bps transient_bps signal observed_ask_bps "
    "observed_bid_bps observed_shares observed_quote_shares observed_near_shares observed_tick child_shares ack_ms "
    "child_filled_shares filled_shares reject passive_shares remaining_shares"
).split()


class Recorder:
    """Plays episodes of an env, and tells for each member what its desk hears.

    Args:
        core: the env, of which every member begins its next episode at `begin`.

    Attributes:
        observations: float32 (N, D), what the env itself observed last.
        running: bool (N,), whose episodes go on.

    Raises:
        UserError: the market is the notebook's, which has no quotes.
    """

    def __init__(self, core: RoutingCore) -> None:
        self.core, self.market = core, core.market
        if isinstance(self.market, NotebookMarket):
            what = f"market '{self.market.name}' is a game of draws, without quotes that a feed could show"
            raise UserError(f"{what}; expected a synthetic or a recorded market")
        self._ticks = 1 if isinstance(self.market, ReplayMarket) else self.market.ticks_per_step
        self._tick_s = self.market.order.step_s / self._ticks
        # else levels behind the touch are assumed, in bps
        self._in_px = isinstance(self.market, ReplayMarket) and len(self.market.level_profile) == 1
        self._sells = self._in_px and self.market.order.side == "sell"
        self._traded = np.zeros((0, 2, core.n, self.market.n_venues))
        self.observations = np.zeros((core.n, *core.observation_space.shape), dtype=np.float32)
        self.running = np.zeros(core.n, dtype=np.bool_)
        self._told_s = np.zeros(core.n)

    def begin(self) -> list[Heard]:
        """Begin the next episode of every member: for each, what its desk hears up to its first observation."""
        self.observations = self.core.reset()
        self.running[:], self._told_s[:] = True, 0.0
        if self.market.has_volume:
            self._traded = self._play_path()
        found: list[Heard] = [[arrival] for arrival in self._arrivals()]
        self._tell(found, self._read(_SEEN))
        return found

    def step(self, actions: Any) -> list[Heard]:
        """Step the env: for each member, what its desk hears up to its next observation; nothing where it has none."""
        sent = self._sent(actions)
        self.observations, _, done = self.core.step(actions)
        self.running &= ~done
        now = self._read(_SEEN + list(REST_FIELDS) if self.core.action_adapter.rests else _SEEN)
        found: list[Heard] = [[] for _ in range(self.core.n)]
        for m in np.flatnonzero(self.running).tolist():
            heard = self._answers(m, sent, now)
            ended = now["wave"][m] == 0  # a decision, not only a wave
            if ended and self.market.has_volume:
                heard += self._trades(m, int(sent["step"][m]))
            found[m] = sorted(heard, key=lambda event: event.time_s)
            if ended and self.core.action_adapter.rests:
                found[m] += self._reports(m, sent, now)
        self._tell(found, now)
        return found

    # -------------------------------------------------------------------------------------------- of the simulator

    def _read(self, names: list[str]) -> Fields:
        return {name: self.core.simulator.read(name) for name in names}

    def _play_path(self) -> np.ndarray:
        """What trades in each tick of an episode, and of it what hits the near touch, float64 (T, 2, N, K).

        The path never reads what is sent, so that an order that sends nothing meets the same.
        """
        core = self.core
        n_ticks = int(core.simulator.read("horizon_steps").max()) * self._ticks
        market = self.market.with_order(step_s=self._tick_s, horizon_steps=n_ticks, waves=1)
        path, idle = BatchSimulator(market, core.n, core.data_split), np.zeros((core.n, market.n_venues))
        if isinstance(market, ReplayMarket):
            path.recording = core.simulator.recording
        path.reset(core.seeds, core.episodes)
        found = np.zeros((n_ticks, 2, core.n, market.n_venues))
        for tick in range(n_ticks):
            if tick > 0:
                path.step(idle)
            found[tick] = path.read("tick_volume_shares"), path.read("tick_outflow_shares")
        return found

    def _sent(self, actions: Any) -> Fields:
        """The state when the children of these actions have been sent, and no time has passed."""
        core = self.core
        weights, pace = core.action_adapter.decode(actions, core.n, core.simulator.read("wave") > 0)
        rest = core.action_adapter.resting(actions)
        branch = core.simulator.branch(np.arange(core.n))
        pace = np.full(core.n, -1.0) if pace is None else pace
        rest = np.empty((0, 0)) if rest is None else np.ascontiguousarray(rest)
        send(branch.kernel_state(), np.ascontiguousarray(weights), pace, rest)
        return {name: branch.read(name) for name in (*_SENT, *REST_FIELDS)}

    # ---------------------------------------------------------------------------------------------- kinds of events

    def _arrivals(self) -> Iterator[Arrival]:
        names, truth = self.market.venue_names, Truth(self.core.simulator)
        fields = ["take_fee_bps", "make_fee_bps"]
        fields += ["recent_volume_shares", "recent_outflow_shares"] if self.market.has_volume else []
        values = {name: getattr(truth, name) for name in fields}
        mids, sizes, horizons, grids = (
            getattr(truth, name) for name in ("arrival_mid_px", "quantity_shares", "horizon_steps", "grid_bps")
        )
        for m in range(self.core.n):
            by_venue = {name: dict(zip(names, of[m].tolist(), strict=True)) for name, of in values.items()}
            yield Arrival(
                time_s=0.0,
                side="sell" if self._sells else "buy",
                mid_px=float(mids[m]) if self._in_px else None,
                quantity_shares=float(sizes[m]),
                horizon_steps=int(horizons[m]),
                grid_bps=float(grids[m]),
                **by_venue,
            )

    def _tell(self, found: list[Heard], now: Fields) -> None:
        """Add to each member's events what its feeds show now, and the clock."""
        shape = (self.core.n, self.market.n_venues, MOST_LEVELS)
        level_bps, level_shares = np.zeros(shape), np.zeros(shape)
        levels_behind(self.core.simulator.kernel_state(), level_bps, level_shares)
        now_s = now["step"] * self.market.order.step_s + 1e-3 * now["elapsed_ms"]
        push_bps = now["permanent_bps"] + now["transient_bps"]
        remaining = now["remaining_shares"] + np.where(now["child_shares"] > 0.0, now["child_filled_shares"], 0.0).sum(
            1
        )
        for m in np.flatnonzero(self.running).tolist():
            last_s = max((event.time_s for event in found[m]), default=0.0)
            at_s = self._told_s[m] = max(float(now_s[m]), last_s, float(self._told_s[m]))
            for k, name in enumerate(self.market.venue_names):
                found[m].append(Status(at_s, name, bool(now["open"][m, k])))
                found[m].append(Latency(at_s, name, float(now["observed_latency_ms"][m, k])))
                quote = self._quote(m, k, at_s, now, level_bps[m, k], level_shares[m, k])
                found[m] += [] if quote is None else [quote]
            found[m].append(Clock(at_s, float(now["signal"][m]), float(push_bps[m]), float(remaining[m])))

    def _quote(
        self, m: int, k: int, at_s: float, now: Fields, level_px: np.ndarray, level_shares: np.ndarray
    ) -> Quote | None:
        name, recording = self.market.venue_names[k], self.core.simulator.recording
        ask, bid = float(now["observed_ask_bps"][m, k]), float(now["observed_bid_bps"][m, k])
        quoted = float(now["observed_quote_shares"][m, k])
        if now["dark"][m, k] or (quoted <= 0.0 and ask == bid == 0.0):
            return None
        if quoted <= 0.0 or (self._in_px and not now["open"][m, k]):
            return Quote(at_s, name, None, 0.0, None, 0.0)
        if self._in_px and recording is not None:
            row = int(now["observed_tick"][m, k])
            ask, bid = float(recording.ask_px[row]), float(recording.bid_px[row])
            level_px = np.append(np.nan, recording.level_px[row])
        at = [level for level in range(1, MOST_LEVELS) if level_shares[level] > 0.0]
        deeper = tuple((float(level_px[level]), float(level_shares[level])) for level in at)
        ask_shares = float(now["observed_shares"][m, k]) if now["open"][m, k] else quoted
        bid_shares = float(now["observed_near_shares"][m, k])
        if self._sells:
            mirrored = tuple((-price, shares) for price, shares in deeper)
            return Quote(at_s, name, -ask, ask_shares, -bid, bid_shares, mirrored)
        return Quote(at_s, name, bid, bid_shares, ask, ask_shares, deeper)

    def _trades(self, m: int, step: int) -> list[Event]:
        """What others traded in a decision, tick by tick."""
        found: list[Event] = []
        for tick in range(step * self._ticks, (step + 1) * self._ticks):
            volume, outflow = self._traded[tick, :, m]
            for k in np.flatnonzero(volume > 0.0).tolist():
                shares, near = float(volume[k]), float(outflow[k])
                sold = shares - near if self._sells else near
                found.append(Trade((tick + 0.5) * self._tick_s, self.market.venue_names[k], shares, sold))
        return found

    def _answers(self, m: int, sent: Fields, now: Fields) -> list[Event]:
        found: list[Event] = []
        begun_s, elapsed_ms = float(sent["step"][m] * self.market.order.step_s), float(sent["elapsed_ms"][m])
        ends_s = float(now["step"][m] * self.market.order.step_s + 1e-3 * now["elapsed_ms"][m])
        for k in np.flatnonzero((sent["child_shares"][m] > 0.0) & (now["child_shares"][m] <= 0.0)).tolist():
            due_ms = float(sent["child_answers_ms"][m, k])  # of a child sent before this step
            due_ms = max(due_ms, 0.0) if np.isfinite(due_ms) else elapsed_ms + float(now["ack_ms"][m, k])
            filled = float(sent["child_filled_shares"][m, k]) + float(now["filled_shares"][m, k])
            at_s = min(max(begun_s + 1e-3 * due_ms, float(self._told_s[m])), ends_s)
            rejected = bool(now["reject"][m, k] == 1.0)
            found.append(Acknowledgement(at_s, self.market.venue_names[k], filled, rejected))
        return found

    def _reports(self, m: int, sent: Fields, now: Fields) -> list[Event]:
        """What became in a decision of each order that rests, or is on its way to it."""
        found: list[Event] = []
        at_s = float(now["step"][m] * self.market.order.step_s)
        for k, name in enumerate(self.market.venue_names):
            at = orders_at(k)
            known, leaves = (_known_shares(of, m, at) for of in (sent, now))
            left = float(now["passive_shares"][m, k] - sent["passive_shares"][m, k])
            orders = np.flatnonzero(known > 0.0)
            sure = (sent["rest_cancel_shares"][m, at] <= 0.0) & (sent["rest_arrives_ms"][m, at] < 0.0)
            for r in sorted(orders.tolist(), key=lambda r: (not sure[r], sent["rest_number"][m, at][r])):
                gone = float(known[r] - leaves[r])  # filled, or cancelled
                filled = left if len(orders) == 1 else gone if sure[r] else min(max(left, 0.0), gone)
                left -= filled
                number, ahead = int(sent["rest_number"][m, at][r]), float(now["rest_estimate_shares"][m, at][r])
                found.append(OrderReport(at_s, name, number, filled, float(leaves[r]), ahead))
        return found


def _known_shares(of: Fields, m: int, at: slice) -> np.ndarray:
    """Shares of a venue's orders that the desk takes to rest: a cancel that is not answered has taken none."""
    unanswered = np.where(of["rest_cancel_ms"][m, at] < 0.0, of["rest_cancel_shares"][m, at], 0.0)
    return np.asarray(of["rest_shares"][m, at] + unanswered)


def events_of(core: RoutingCore, policy: Any) -> Iterator[tuple[Heard, np.ndarray, np.ndarray]]:
    """One episode of an env under a policy: at each observation the events before it, itself, and the action on it.

    Args:
        core: with ``n=1``; its next episode is played.
        policy: anything with SB3's ``predict``.

    Yields:
        What the desk hears since the observation before, an `Arrival` first and a `Clock` last; the env's own
        observation, float32 (D,); and the action.
    """
    recorder = Recorder(core)
    events = recorder.begin()[0]
    while events:
        observation = recorder.observations[0]
        action, _ = policy.predict(observation, deterministic=True)
        yield events, observation, action
        events = recorder.step(np.asarray(action)[np.newaxis])[0]
