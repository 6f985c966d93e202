"""The synthetic market's executable specification: one order in plain NumPy, for reading and for proof. Not for speed.

It is written from `docs/market.md` and shares no code with the kernels; given the same random numbers
(:class:`Draws`) both agree number for number, which a test holds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from sor_sb3.market.spec import SyntheticMarket

MEMORY = 0.7  # weight of the past in a venue's fill ratio, and in its last rejection
ROUNDING = 1e-9  # of shares that are counted, or compared with a threshold


class Draws(Protocol):
    """Where the random numbers come from: attributes by the names of `sor_sb3.simulator.paths.synthetic.VENUE_DRAWS`
    and its neighbours; ``z_`` are standard normals, ``u_`` uniforms, floats of the order's and (K,) of the venues'."""

    def seed(self, seed: int | None) -> None:
        """Begin anew from a seed; None goes on."""

    def opening(self) -> Any:
        """Numbers that open the next episode."""
        ...

    def tick(self, step: int) -> Any:
        """Numbers of one step."""
        ...


def _decay(step_s: float, half_life_s: float) -> float:
    return 2.0 ** (-step_s / half_life_s)


def _shock(sd: float, decay: float) -> float:
    return sd * math.sqrt(1.0 - decay**2)


def _chance(step_s: float, per_hour: float) -> float:
    return 1.0 - math.exp(-step_s * per_hour / 3600.0)


@dataclass
class _Costs:
    """The ledger of one episode, bps of the whole order."""

    spread: float = 0.0
    impact: float = 0.0
    timing: float = 0.0
    fee: float = 0.0
    cleanup: float = 0.0


@dataclass
class _Fills:
    """What child orders of one episode did."""

    sent: float = 0.0
    filled: float = 0.0
    value_bps_shares: float = 0.0
    costs: _Costs = field(default_factory=_Costs)


class _Children:
    """Child orders without an answer, at most one a venue; times and limits count from the decision at hand."""

    def __init__(self, n_venues: int) -> None:
        self.shares = np.zeros(n_venues)  # 0: no child there
        self.filled = np.zeros(n_venues)
        self.arrives_ms = np.full(n_venues, math.inf)  # negative: it has arrived; infinite: it finds nobody there
        self.answers_ms = np.full(n_venues, math.inf)
        self.late_ms = np.zeros(n_venues)  # after the first child of its decision
        self.limit_bps = np.full(n_venues, math.inf)
        self.rejected = np.zeros(n_venues, dtype=bool)


class ReferenceMarket:
    """One parent order in a synthetic market.

    Args:
        market: specification, without ranges.
        draws: where the random numbers come from.
    """

    def __init__(self, market: SyntheticMarket, draws: Draws) -> None:
        if market.randomise:
            raise ValueError("the reference is for one market, not a family of them; take 'randomise' out")
        self.market, self.draws, self.n_venues = market, draws, market.n_venues
        self._prepare_order()
        self._prepare_venues()
        self._prepare_dark_pools()
        self._prepare_dynamics()

    # --------------------------------------------------------------------------------------------- constants

    def _per_venue(self, name: str, missing: float = 0.0) -> np.ndarray:
        values = [getattr(venue, name) for venue in self.market.venues]
        return np.array([missing if value is None else value for value in values], dtype=np.float64)

    def _prepare_order(self) -> None:
        order, response = self.market.order, self.market.response
        self.quantity, self.horizon = order.quantity_shares, order.horizon_steps
        self.step_s, self.step_ms = order.step_s, 1000.0 * order.step_s
        self.limit_offset_bps = math.inf if order.limit_offset_bps is None else order.limit_offset_bps
        self.limited = self.market.order_protection or order.limit_offset_bps is not None
        self.impact_bps_per_share = response.permanent_impact_bps_per_1000_shares / 1000.0
        self.leak_forget = 1.0 - _decay(self.step_s, response.leakage_half_life_s)

    def _prepare_venues(self) -> None:
        venues, step_s = self.market.venues, self.step_s
        self.dark = np.array([venue.dark is not None for venue in venues])
        self.lit = ~self.dark
        self.fee_bps = self._per_venue("take_fee_bps")
        self.walk_bps = np.where(self.dark, 0.0, self._per_venue("walk_bps"))  # a pool has one price,
        toxicity = np.where(self.dark, 0.0, self._per_venue("toxicity"))  # and nothing that others see
        self.fade_per_ms = toxicity / self.market.response.reaction_time_ms
        self.hidden_fraction = np.where(self.dark, 0.0, self._per_venue("hidden_fraction"))
        self.log_offset = np.log(self._per_venue("offset_bps", missing=1.0))
        self.log_size = np.log(self._per_venue("size_shares", missing=1.0))
        self.latency_median, self.latency_sigma = self._per_venue("latency_ms"), self._per_venue("latency_sigma")
        self.bump_ms = self._per_venue("speed_bump_ms")
        self.expected_ms = self.latency_median + self.bump_ms
        feeds = [v.latency_ms if v.feed_latency_ms is None else v.feed_latency_ms for v in venues]
        self.feed_ms = np.array(feeds, dtype=np.float64)
        self.refill_decay = np.array([_decay(step_s, v.refill_half_life_s) for v in venues])
        self.halt_enter = np.array([_chance(step_s, v.halts_per_hour) for v in venues])
        self.halt_leave = np.array([_chance(step_s, 3600.0 / v.halt_duration_s) for v in venues])
        self.outage_enter = np.array([_chance(step_s, v.outages_per_hour) for v in venues])
        self.outage_leave = np.array([_chance(step_s, 3600.0 / v.outage_duration_s) for v in venues])
        self.by_name = np.argsort(np.argsort(self.market.venue_names))

    def _prepare_dark_pools(self) -> None:
        pools = [venue.dark for venue in self.market.venues if venue.dark is not None]
        self.zero_probability = np.array([pool.zero_probability for pool in pools])
        rest = np.array([1.0 - pool.power_exponent for pool in pools])
        self.power_rest = np.where(np.abs(rest) < 1e-12, 1e-12, rest)  # of the integral of s**-exponent, or nearly
        self.power_total = np.expm1(self.power_rest * np.log([pool.max_shares for pool in pools]))
        self.min_execution, self.leak_bps_per_share = np.zeros(self.n_venues), np.zeros(self.n_venues)
        self.min_execution[self.dark] = [pool.min_execution_shares for pool in pools]
        self.leak_bps_per_share[self.dark] = [pool.leakage_bps_per_1000_shares / 1000.0 for pool in pools]

    def _prepare_dynamics(self) -> None:
        spec, step_s = self.market, self.step_s
        quotes, mid, stress, latency, volume = spec.quotes, spec.mid, spec.stress, spec.latency, spec.volume
        self.fast, self.slow = _decay(step_s, quotes.fast_half_life_s), _decay(step_s, quotes.slow_half_life_s)
        self.offset_fast_shock = _shock(quotes.offset_fast_sd, self.fast)
        self.offset_slow_shock = _shock(quotes.offset_slow_sd, self.slow)
        self.size_fast_shock = _shock(quotes.size_fast_sd, self.fast)
        self.size_slow_shock = _shock(quotes.size_slow_sd, self.slow)
        self.volatility_bps = mid.volatility_bps_per_sqrt_s * math.sqrt(step_s)
        self.jump_probability = _chance(step_s, mid.jumps_per_hour)
        self.drift_decay = _decay(step_s, mid.drift_half_life_s)
        self.drift_shock = _shock(mid.drift_sd_bps_per_s, self.drift_decay)
        self.signal_noise = math.sqrt(1.0 - mid.signal_correlation**2)
        self.stress_enter = _chance(step_s, stress.entries_per_hour)
        self.stress_leave = _chance(step_s, 3600.0 / stress.duration_s)
        self.stress_log_offset, self.stress_log_size = math.log(stress.offset_factor), math.log(stress.size_factor)
        self.congest_enter = _chance(step_s, latency.congestions_per_hour)
        self.congest_leave = _chance(step_s, 3600.0 / latency.congestion_duration_s)
        shares = self._per_venue("volume_share")
        total = shares.sum()
        self.venue_volume = shares * (volume.shares_per_day * step_s / volume.day_s / total if total else 0.0)
        self.volume_forget = 1.0 - _decay(step_s, volume.memory_half_life_s)

    # ------------------------------------------------------------------------------------------ an episode

    def begin(self) -> None:
        """Begin an episode, and move the market to its first decision."""
        self.step_number = 0
        self.remaining = self.available = self.quantity
        self.mid_bps = self.next_mid_bps = self.displacement_bps = self.last_move_bps = 0.0
        self.worst_offered_bps = self.leak_bps = 0.0
        self.depleted = np.zeros(self.n_venues)
        self.fill_ratio, self.reject = np.ones(self.n_venues), np.zeros(self.n_venues)
        self.children, self.fills = _Children(self.n_venues), _Fills()
        self._open_market(self.draws.opening())
        self._advance(self.draws.tick(0))

    def execute(self, weights: np.ndarray) -> tuple[float, float, bool]:
        """Send this step's slice by `weights` (K,), which sum to 1; cost (bps), its pure noise, and done."""
        cost = self._execute(self._split(weights, self._slice()))
        self.step_number += 1
        if self.step_number >= self.horizon:
            cost += self._clean_up()
        done = self.remaining <= 0.0
        if not done:
            self._advance(self.draws.tick(self.step_number))
        return cost, self.noise_cost, done

    # ------------------------------------------------------------------------------------------ the market

    def _quotes(self) -> tuple[np.ndarray, np.ndarray]:
        """Offsets and sizes; a dark pool's are 0."""
        log_offset = self.log_offset + self.offset_fast + self.offset_slow
        log_size = self.log_size + self.size_fast + self.size_slow
        if self.stressed:
            log_offset += self.stress_log_offset
            log_size += self.stress_log_size
        offset_bps, tick_bps = np.exp(log_offset), self.market.quotes.tick_bps
        if tick_bps > 0.0:
            offset_bps = (np.floor(np.maximum(offset_bps / tick_bps - 0.5, 0.0) + 0.5) + 0.5) * tick_bps
        return offset_bps * self.lit, np.exp(log_size) * self.lit

    def _latency(self, z: np.ndarray) -> np.ndarray:
        """Without the speed bump."""
        latency_ms = self.latency_median * np.exp(self.latency_sigma * z)
        latency_ms[self.congested] *= self.market.latency.congestion_factor
        return latency_ms

    def _traded(self, z: np.ndarray) -> np.ndarray:
        volume = self.market.volume
        x = (self.day_position + self.step_number * self.step_s / volume.day_s) % 1.0
        curve = 1.0 + volume.curve * ((2.0 * x - 1.0) ** 2 - 1.0 / 3.0)
        sd = volume.noise_sd
        return self.venue_volume * curve * np.exp(sd * (z - 0.5 * sd))

    def _open_market(self, draw: Any) -> None:
        quotes = self.market.quotes
        self.drift = self.market.mid.drift_sd_bps_per_s * draw.z_drift
        self.stressed = draw.u_stress * (self.stress_enter + self.stress_leave) < self.stress_enter
        self.day_position = draw.u_day
        self.offset_fast = quotes.offset_fast_sd * draw.z_offset_fast
        self.offset_slow = quotes.offset_slow_sd * draw.z_offset_slow
        self.size_fast = quotes.size_fast_sd * draw.z_size_fast
        self.size_slow = quotes.size_slow_sd * draw.z_size_slow
        self.congested = draw.u_congested * (self.congest_enter + self.congest_leave) < self.congest_enter
        self.open = draw.u_halted * (self.halt_enter + self.halt_leave) >= self.halt_enter
        self.outage = draw.u_outage * (self.outage_enter + self.outage_leave) < self.outage_enter
        self.latency_ms = self._latency(draw.z_latency) + self.bump_ms
        self.volume = self._traded(0.5 * draw.z_volume)
        self.next_offset, self.next_size = self.offset, self.size = self._quotes()
        self.change_at = np.full(self.n_venues, -math.inf)  # the first quotes have stood for long

    def _advance(self, draw: Any) -> None:
        """Move the market to the next decision, and draw what a child order meets until the one after."""
        self._move_mid(draw)
        self._move_quotes(draw)
        self._move_venues(draw)
        self._hide(draw)

    def _move_mid(self, draw: Any) -> None:
        """The mid's even move until the next decision, and the news: when it breaks against us, by how much."""
        mid, informed = self.market.mid, self.market.informed
        noise_bps = self.volatility_bps * draw.z_mid
        self.signal = self.signal_noise * draw.z_signal
        if mid.drift_sd_bps_per_s > 0.0:
            self.drift = self.drift_decay * self.drift + self.drift_shock * draw.z_drift
            self.signal += mid.signal_correlation * self.drift / mid.drift_sd_bps_per_s
        if self.stressed:
            noise_bps *= self.market.stress.volatility_factor
        if draw.u_stress < (self.stress_leave if self.stressed else self.stress_enter):
            self.stressed = not self.stressed
        if draw.u_jump < self.jump_probability:
            noise_bps += mid.jump_sd_bps * draw.z_jump
        self.smooth_bps = self.drift * self.step_s + noise_bps
        self.news_ms, self.bad_news_bps, good_news_bps = math.inf, 0.0, 0.0
        if draw.u_informed < informed.probability:
            if draw.u_against < 0.5:
                self.news_ms, self.bad_news_bps = -informed.window_ms * math.log(draw.u_news), informed.jump_bps
            else:
                good_news_bps = informed.jump_bps
        self.noise_bps, self.news_bps = noise_bps, self.bad_news_bps - good_news_bps
        self.next_mid_bps = self.mid_bps + self.smooth_bps + self.news_bps

    def _move_quotes(self, draw: Any) -> None:
        """A quote that changed too short a while ago for the venue's feed has not been heard of."""
        feed_ms = np.where(self.congested, self.market.latency.congestion_factor, 1.0) * self.feed_ms
        unheard = feed_ms > self.step_ms * (1.0 - self.change_at)
        self.observed_offset = np.where(unheard, self.offset, self.next_offset)
        self.observed_size = np.where(unheard, self.size, self.next_size)
        self.offset, self.size = self.next_offset, self.next_size
        self.offset_fast = self.fast * self.offset_fast + self.offset_fast_shock * draw.z_offset_fast
        self.offset_slow = self.slow * self.offset_slow + self.offset_slow_shock * draw.z_offset_slow
        self.size_fast = self.fast * self.size_fast + self.size_fast_shock * draw.z_size_fast
        self.size_slow = self.slow * self.size_slow + self.size_slow_shock * draw.z_size_slow
        self.next_offset, self.next_size = self._quotes()
        self.change_at = draw.u_change

    def _move_venues(self, draw: Any) -> None:
        """Status, latency, traded volume."""
        latency = self.market.latency
        enter = self.congest_enter * (latency.stress_multiplies_congestions if self.stressed else 1.0)
        self.congested = self.congested ^ (draw.u_congested < np.where(self.congested, self.congest_leave, enter))
        self.open = self.open ^ (draw.u_halted < np.where(self.open, self.halt_enter, self.halt_leave))
        self.outage = self.outage ^ (draw.u_outage < np.where(self.outage, self.outage_leave, self.outage_enter))
        self.takes_orders = self.open & ~self.outage
        self.observed_latency_ms = self.latency_ms
        self.latency_ms = self._latency(draw.z_latency)
        self.latency_ms[draw.u_tail < latency.tail_probability] *= latency.tail_factor
        self.latency_ms += self.bump_ms
        self.volume = self.volume + self.volume_forget * (self._traded(draw.z_volume) - self.volume)

    def _hide(self, draw: Any) -> None:
        """Sizes that nobody sees: behind the displayed ones, and in dark pools."""
        self.hidden = -self.hidden_fraction * np.log(draw.u_hidden) * self.size
        if self.dark.any():
            power_law = np.exp(np.log1p(draw.u_dark_size[self.dark] * self.power_total) / self.power_rest)
            nothing = draw.u_dark_zero[self.dark] < self.zero_probability
            self.hidden[self.dark] = np.where(nothing, 0.0, power_law)

    # ------------------------------------------------------------------------------------------ our order

    def _slice(self) -> float:
        still_allowed = self.quantity * (1.0 - (self.step_number + 1.0) / self.horizon)
        return max(self.available - still_allowed, 0.0)

    def _split(self, weights: np.ndarray, shares: float) -> np.ndarray:
        """Shares of each new child; none where one is in flight."""
        sent, lot_shares = weights * shares, self.market.order.lot_shares
        if lot_shares is not None and shares > 0.0:
            lots = math.ceil(shares / lot_shares - ROUNDING)
            sent = self._whole(weights * lots) * (shares / lots)
        return np.where(self.children.shares > 0.0, 0.0, sent)

    def _whole(self, lots: np.ndarray) -> np.ndarray:
        """Lots rounded down, and those left over by largest remainder, ties by name."""
        whole = np.floor(lots + ROUNDING)
        left_over = round(float(lots.sum() - whole.sum()))
        by_remainder = np.lexsort((self.by_name, -np.round(lots - whole, 9)))
        whole[by_remainder[:left_over]] += 1.0
        return whole

    def _execute(self, sent: np.ndarray) -> float:
        """Send child orders and let a step pass; its cost in bps of the order."""
        self._raise_worst_offered()
        idle = self.available - self._slice()  # no child of this decision carries these
        self._send(sent)
        filled = self._fill()
        cost = self._book(filled)
        self._hear_answers()
        total = float(filled.sum())
        self.depleted = (self.depleted + filled) * self.refill_decay
        self.remaining -= total
        if self.remaining < 1e-12 * self.quantity:
            self.remaining = 0.0
        self.available = max(self.remaining - float((self.children.shares - self.children.filled).sum()), 0.0)
        self.noise_cost = self._pure_noise(idle)
        return cost + self._mark_to_next_mid(total)

    def _raise_worst_offered(self) -> None:
        """The highest price above the mid that a child could pay in this step, wherever and whenever it arrives."""
        worst_move_bps = max(self.smooth_bps, 0.0) + self.bad_news_bps
        worst_quote_bps = np.maximum(self.offset, self.next_offset)
        offers_bps = worst_quote_bps + worst_move_bps + self.walk_bps + self.fee_bps
        self.worst_offered_bps = max(self.worst_offered_bps, float(offers_bps.max()))

    def _send(self, sent: np.ndarray) -> None:
        """Put new children on their way."""
        new = sent > 0.0
        if not new.any():
            return
        children, arrives_ms = self.children, self.latency_ms
        if self.market.order.synchronise_arrivals:
            arrives_ms = arrives_ms + (self.expected_ms[new].max() - self.expected_ms)
        answers_ms = arrives_ms + self.latency_ms - self.bump_ms
        late = arrives_ms >= self.step_ms  # then what the venue is on arrival counts
        rejected = self.open & ~self.takes_orders & ~late
        answers_ms[rejected] = np.maximum(answers_ms[rejected], self.market.response.outage_reject_ms)
        first_ms = float(np.min(arrives_ms, where=new & self.takes_orders, initial=math.inf))
        children.shares[new], children.filled[new] = sent[new], 0.0
        children.arrives_ms[new] = np.where(self.takes_orders | late, arrives_ms, math.inf)[new]
        children.answers_ms[new] = answers_ms[new]
        children.late_ms[new] = np.maximum(arrives_ms - first_ms, 0.0)[new]
        children.rejected[new] = rejected[new]
        if self.limited:
            children.limit_bps[new] = self._limits(sent)[new]
        self.fills.sent += float(sent.sum())
        self.leak_bps += float(self.leak_bps_per_share @ sent)

    def _displayed(self) -> np.ndarray:
        """What venues show, as heard, less what we took; a pool shows nothing."""
        left = self.observed_size - self.depleted
        return np.where(self.open & (left > ROUNDING * self.observed_size), left, 0.0)

    def _limits(self, sent: np.ndarray) -> np.ndarray:
        """The highest prices above the mid that new children may pay."""
        shown = self._displayed()
        quoted_bps = np.where(shown > 0.0, self.observed_offset, math.inf)
        limits = np.full(self.n_venues, quoted_bps.min() + self.limit_offset_bps)
        if self.market.order_protection:
            untaken_bps = np.where(sent < shown * (1.0 - ROUNDING), quoted_bps, math.inf)
            best = int(untaken_bps.argmin())
            elsewhere = np.full(self.n_venues, untaken_bps[best])
            elsewhere[best] = np.delete(untaken_bps, best).min()
            limits = np.minimum(limits, elsewhere)
        return limits

    def _arriving(self) -> np.ndarray:
        """Which children reach a venue that trades before the next decision, whenever they were sent."""
        return self._due() & self.takes_orders

    def _due(self) -> np.ndarray:
        arrives_ms = self.children.arrives_ms
        return (self.children.shares > 0.0) & (arrives_ms >= 0.0) & (arrives_ms < self.step_ms)

    def _turn_away(self) -> None:
        """Children that reach an open venue which takes none are rejected, late."""
        children = self.children
        gone = self._due() & self.open & ~self.takes_orders
        given_up_ms = children.arrives_ms[gone] + self.market.response.outage_reject_ms
        children.answers_ms[gone] = np.maximum(children.answers_ms[gone], given_up_ms)
        children.rejected[gone] = True

    def _fill(self) -> np.ndarray:
        """Shares that the arriving children fill, between what they ask for, what they find, and their limits."""
        self._turn_away()
        children, arriving = self.children, self._arriving()
        elapsed = np.minimum(children.arrives_ms / self.step_ms, 1.0)
        changed, late = elapsed > self.change_at, children.arrives_ms > self.news_ms
        self.touch_move = self.smooth_bps * elapsed + np.where(changed, self.next_offset - self.offset, 0.0)
        self.touch_move[late] += self.bad_news_bps
        shown = np.where(changed, self.next_size, self.size)
        shown[late] *= 1.0 - self.market.informed.removed_fraction
        self.held = np.maximum(shown - self.depleted, 0.0) * np.exp(-self.fade_per_ms * children.late_ms)
        self.held += np.maximum(self.hidden - np.maximum(self.depleted - shown, 0.0), 0.0)
        filled = np.where(arriving, np.minimum(children.shares, self.held), 0.0)
        if self.limited:
            filled = np.minimum(filled, self.held * self._part_within_limit(self.offset + self.touch_move))
        filled[filled < self.min_execution * (1.0 - ROUNDING)] = 0.0
        children.filled += filled
        return filled

    def _part_within_limit(self, touch_bps: np.ndarray) -> np.ndarray:
        """Part of what is held whose marginal price, the touch plus ``2 walk f / held``, is within the limit."""
        room_bps = self.children.limit_bps - touch_bps
        part = np.divide(room_bps, 2.0 * self.walk_bps, out=np.ones(self.n_venues), where=self.walk_bps > 0.0)
        return np.where(room_bps < 0.0, 0.0, np.minimum(part, 1.0))

    def _book(self, filled: np.ndarray) -> float:
        """Write fills into the ledger; their all-in cost in bps of the order."""
        total, costs = float(filled.sum()), self.fills.costs
        if total <= 0.0:
            return 0.0
        walked = self.walk_bps * filled / np.maximum(self.held, 1e-300)
        spread, timing = float(filled @ self.offset), float(filled @ self.touch_move)
        impact, fee = float(filled @ walked), float(filled @ self.fee_bps)
        costs.spread += spread / self.quantity
        costs.timing += timing / self.quantity
        costs.impact += impact / self.quantity
        costs.fee += fee / self.quantity
        self.fills.filled += total
        self.fills.value_bps_shares += spread + timing + impact + total * (self.mid_bps + self.displacement_bps)
        return (spread + timing + impact + fee) / self.quantity

    def _hear_answers(self) -> None:
        """Hear of the children that are answered before the next decision, and let time pass for the others."""
        children = self.children
        answered = (children.shares > 0.0) & (children.answers_ms <= self.step_ms)
        ratio = np.divide(children.filled, children.shares, out=np.zeros(self.n_venues), where=answered)
        self.fill_ratio = np.where(answered, MEMORY * self.fill_ratio + (1.0 - MEMORY) * ratio, self.fill_ratio)
        self.reject = np.where(answered, children.rejected, MEMORY * self.reject)
        children.shares[answered] = children.filled[answered] = 0.0
        children.arrives_ms -= self.step_ms
        children.answers_ms -= self.step_ms

    def _pure_noise(self, idle: float) -> float:
        """Part of the step's cost whose mean is zero whatever is done: noise times shares that are fixed before it."""
        scheduled = self.quantity * (1.0 - (self.step_number + 1.0) / self.horizon)
        noise = (idle if self.limited else self.remaining) * self.noise_bps
        noise += scheduled * (self.news_bps + self.smooth_bps - self.noise_bps)
        return noise / self.quantity

    def _mark_to_next_mid(self, filled: float) -> float:
        """Charge the mid's move, and our own push of it, on what is still to be done."""
        leaked_bps = self.leak_bps * self.leak_forget
        self.leak_bps -= leaked_bps
        push_bps = self.impact_bps_per_share * filled + leaked_bps
        move_bps = self.next_mid_bps - self.mid_bps
        share = self.remaining / self.quantity
        self.fills.costs.timing += share * move_bps
        self.fills.costs.impact += share * push_bps
        self.displacement_bps += push_bps
        self.mid_bps = self.next_mid_bps
        self.last_move_bps = move_bps + push_bps
        self.children.limit_bps -= self.last_move_bps  # limits are prices, whatever the mid does
        return share * self.last_move_bps

    def _clean_up(self) -> float:
        price_bps = self.worst_offered_bps + self.market.response.cleanup_penalty_bps
        cost = self.remaining / self.quantity * price_bps
        self.fills.costs.cleanup += cost
        self.remaining = 0.0
        return cost

    def summary(self) -> dict[str, Any]:
        """Costs and measures of a finished episode, under the names that the envs report them by."""
        fills, parts = self.fills, dict(vars(self.fills.costs))
        nothing = math.nan
        return {
            "episode_cost": {"shortfall": sum(parts.values()), **parts},
            "slippage_bps": fills.value_bps_shares / fills.filled if fills.filled > 0.0 else nothing,
            "fee_bps": fills.costs.fee,
            "fill_rate": fills.filled / fills.sent if fills.sent > 0.0 else nothing,
            "completion": fills.filled / self.quantity,
        }
