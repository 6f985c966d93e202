"""The rule that knows the market's specification, though not its hidden state: what a learner has to match."""

from __future__ import annotations

import hashlib
import json
import math

import numpy as np

from sor_sb3.envs.core import RoutingCore
from sor_sb3.envs.observation import ObservationView
from sor_sb3.errors import UserError
from sor_sb3.market.spec import MarketSpec, SyntheticMarket
from sor_sb3.policies.protocol import Router

PARTS = 10  # equal parts of a slice that are placed one by one
PRICES = 4  # distinct quotes up to which all better ones may be taken whole, under order protection
FIT_SCENARIOS, FIT_SEED = 200, 30_000  # of the validation scenarios
MEMORY = 0.7  # of the fill ratio that is observed
BELIEVED = (
    "venues.latency_ms venues.toxicity venues.hidden_fraction venues.mid_probability venues.mid_fraction "
    "venues.quote_delay_s venues.impact dark.zero_probability dark.half_life_s dark.max_shares "
    "response.reaction_time_ms response.permanent_impact_bps_per_1000_shares "
    "response.transient_impact_bps_per_1000_shares response.transient_half_life_s"
).split()
"""The numbers of a market that the planner believes in; `mistaken` changes each of them."""

_FITTED: dict[tuple[str, str, int | None], tuple[float, float]] = {}


def mistaken(market: SyntheticMarket, draw: int) -> SyntheticMarket:
    """The market with every number of `BELIEVED` times 0.5 or 1.5, the sign drawn for each by `draw`."""
    rng, data = np.random.default_rng(draw), market.model_dump()
    for path in BELIEVED:
        part, _, field = path.partition(".")
        owners = [data["response"]] if part == "response" else data["venues"]
        for owner in owners:
            owner = owner["dark"] if part == "dark" else owner
            factor = float(rng.choice([0.5, 1.5]))
            if owner is not None:
                limit = 1.0 if field.endswith("probability") else math.inf
                owner[field] = min(owner[field] * factor, limit)
    return SyntheticMarket.model_validate(data)


def _tail_table(exponent: float, most: float) -> tuple[np.ndarray, np.ndarray]:
    """Sizes, and the mean of min(size, S) at each, for S of density ``s ** -exponent`` on [1, most]."""
    grid = np.geomspace(1.0, most, 65)
    density = grid**-exponent
    mass = np.concatenate([[0.0], np.cumsum(0.5 * (density[1:] + density[:-1]) * np.diff(grid))])
    survives = 1.0 - mass / mass[-1]
    area = 1.0 + np.concatenate([[0.0], np.cumsum(0.5 * (survives[1:] + survives[:-1]) * np.diff(grid))])
    return np.concatenate([[0.0], grid]), np.concatenate([[0.0], area])


def _cheapest_parts(costs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of costs (n, K, P + 1) of 0, 1, ... P parts at each venue: the cheapest (n, K) that sum to P, and their cost."""
    n, n_venues, size = costs.shape
    best, choice = np.full((n, size), np.inf), np.zeros((n_venues, n, size), np.int64)
    best[:, 0] = 0.0
    for k in range(n_venues):
        lowest = best + costs[:, k, :1]
        for part in range(1, size):
            tried = best[:, : size - part] + costs[:, k, part, None]
            cheaper = tried < lowest[:, part:]
            lowest[:, part:][cheaper] = tried[cheaper]
            choice[k, :, part:][cheaper] = part
        best = lowest
    chosen, left, rows = np.zeros((n, n_venues), np.int64), np.full(n, size - 1), np.arange(n)
    for k in range(n_venues - 1, -1, -1):
        chosen[:, k] = choice[k, rows, left]
        left = left - chosen[:, k]
    return chosen, best[:, -1]


class Planner(Router):
    """Expected-cost dynamic programming over parts of the slice and venues, from the market's specification.

    It takes latency, fade, hidden and midpoint size, impact and the tail of dark sizes at their specified, typical
    values, and what is displayed as it is observed; it believes a pool dry or supplied by its own last fill there. A
    share that comes back costs a continuation price, more by how many slices the order is late, fitted on validation
    scenarios. With a `draw` it believes in numbers that are 50 % off (see `mistaken`).

    Raises:
        UserError: the market is not synthetic, so that nobody knows its numbers.
    """

    name = "planner"
    knows_model = True

    def __init__(
        self,
        market: MarketSpec,
        env_id: str = "OrderSplit-v1",
        seed: int = 0,
        draw: int | None = None,
        continuation: tuple[float, float] | None = None,
    ) -> None:
        super().__init__(market, env_id, seed)
        if not isinstance(market, SyntheticMarket):
            raise UserError(f"router 'planner' knows a synthetic market's numbers; market '{market.name}' is none")
        self.spec = market if draw is None else mistaken(market, draw)
        self._belief, self._ratio, self._asked = np.zeros((3, 0, market.n_venues))
        self._lay_out()
        self.continuation = continuation or self._fitted(draw)

    @classmethod
    def fits(cls, market: MarketSpec) -> bool:
        """Where a specification says how the market moves."""
        return isinstance(market, SyntheticMarket)

    def _lay_out(self) -> None:
        venues, response = self.spec.venues, self.spec.response
        self._fee_bps = np.array([venue.take_fee_bps for venue in venues])
        latency_ms = np.array([venue.latency_ms + venue.speed_bump_ms for venue in venues])
        late_ms = latency_ms - latency_ms.min()
        self._fade = np.array([venue.toxicity for venue in venues]) * -np.expm1(-late_ms / response.reaction_time_ms)
        self._hidden = np.array([venue.hidden_fraction for venue in venues])
        self._mid = np.array([venue.mid_probability for venue in venues])
        self._mid_size = np.array([venue.mid_fraction for venue in venues])
        feed_ms = np.array([v.latency_ms if v.feed_latency_ms is None else v.feed_latency_ms for v in venues])
        tick_s = self.spec.path_dt_s
        with np.errstate(divide="ignore"):
            requotes = -np.expm1(-tick_s / np.array([venue.quote_delay_s for venue in venues]))
        changed = np.minimum((latency_ms + feed_ms) / (1e3 * tick_s), 1.0) * requotes
        moves = np.minimum(np.array([v.offset_bps or 0.0 for v in venues]) / self.spec.quotes.tick_bps, 1.0)
        self._missed = 0.5 * changed * moves
        self._impact = np.array([venue.impact for venue in venues]) / 1000.0
        leaks = [0.0 if venue.dark is None else venue.dark.leakage_bps_per_1000_shares for venue in venues]
        self._leak = np.array(leaks) / 1000.0
        pools = {k: venue.dark for k, venue in enumerate(venues) if venue.dark is not None}
        self._tails = {k: _tail_table(dark.power_exponent, dark.max_shares) for k, dark in pools.items()}

    def _fitted(self, draw: int | None) -> tuple[float, float]:
        """The continuation that is cheapest on validation scenarios of the true market; found once a process."""
        plain = json.dumps(self.market.without_prose(), sort_keys=True)
        key = hashlib.sha256(plain.encode()).hexdigest(), self.env_id, draw
        if key in _FITTED:
            return _FITTED[key]
        scale, costs = max(abs(self.market.scales[0]), 1e-3), dict[tuple[float, float], float]()
        core = RoutingCore(self.env_id, self.market, FIT_SCENARIOS, "validation")

        def best_of(*candidates: tuple[float, float]) -> tuple[float, float]:
            for candidate in candidates:
                if candidate not in costs:
                    costs[candidate] = self._mean_cost(core, candidate)
            return min(costs, key=lambda c: costs[c])

        best = best_of(*((times * scale, 0.0) for times in (1.0, 2.0, 4.0)))
        best = best_of(*((best[0], slope * scale) for slope in (0.1, 0.5)))
        best = best_of(*((best[0] * factor, best[1]) for factor in (0.7, 1.4)))
        _FITTED[key] = best
        return best

    def _mean_cost(self, core: RoutingCore, continuation: tuple[float, float]) -> float:
        self.continuation = continuation
        self.restart()
        core.seed(list(range(FIT_SEED, FIT_SEED + core.n)))
        rows, total, running = core.reset(), np.zeros(core.n), np.full(core.n, True)
        while running.any():
            rows, _, done = core.step(self.actions(rows))
            ended = np.flatnonzero(running & done)
            total[ended] = core.simulator.reduced_cost(ended)
            running &= ~done
        return float(total.mean())

    def restart(self) -> None:
        """Forget what was filled."""
        self._belief = np.zeros((0, self.market.n_venues))

    def _supplied(self, view: ObservationView) -> np.ndarray:
        """Chance (n, K) that a dark pool holds anything for us, by what it did with our last child."""
        dry = np.array([1.0 if v.dark is None else v.dark.zero_probability for v in self.spec.venues])
        half_life_s = np.array([1.0 if v.dark is None else v.dark.half_life_s for v in self.spec.venues])
        if len(self._belief) != len(view.time_left):
            self._belief = np.tile(1.0 - dry, (len(view.time_left), 1))
            self._ratio, self._asked = np.ones_like(self._belief), np.zeros_like(self._belief)
        answered = (self._asked > 0.0) & ~view.busy
        filled = (view.fill_ratio - MEMORY * self._ratio) / (1.0 - MEMORY)
        belief = np.where(answered, np.where(filled > 1.0 - 1e-3, 1.0, 0.0), self._belief)
        kept = np.where(view.is_later[:, None], 1.0, 0.5 ** (self.market.order.step_s / half_life_s))
        belief = (1.0 - dry) + (belief - (1.0 - dry)) * kept
        begins = (view.time_left > 1.0 - 1e-6) & ~view.is_later
        belief[begins] = 1.0 - dry
        self._belief, self._ratio = belief, view.fill_ratio.copy()
        return belief

    def _expected(self, view: ObservationView, supplied: np.ndarray) -> tuple[np.ndarray, ...]:
        """Mean shares (n, K, PARTS + 1) that a child of so many parts gets at the midpoint, the touch, and deeper."""
        parts = np.arange(PARTS + 1) / PARTS
        sent = (view.slice_shares[:, None] * parts)[:, None, :] * np.ones((1, self.market.n_venues, 1))
        shown, rest = view.size_shares[:, :, None], view.slice_shares[:, None, None] - sent
        quoted, mean = view.quoted[:, :, None], self._mid_size[:, None] * shown
        inside = quoted * self._mid[:, None] * -mean * np.expm1(-sent / np.maximum(mean, 1e-9))
        left, firm = sent - inside, np.maximum(shown - self._fade[:, None] * rest, 0.0)
        hidden, beyond = self._hidden[:, None] * shown, np.maximum(left - firm, 0.0)
        touch = quoted * (np.minimum(left, firm) - hidden * np.expm1(-beyond / np.maximum(hidden, 1e-9)))
        deeper = np.zeros_like(touch)
        if self.market.order.limit == "sweep":
            behind = np.maximum(view.depth_shares - view.size_shares, 0.0)[:, :, None]
            deeper = quoted * np.minimum(left - touch, behind)
        for k, venue in enumerate(self.spec.venues):
            if venue.dark is not None:
                held = np.interp(sent[:, k], *self._tails[k])
                enough = view.usable[:, k, None] & (sent[:, k] >= venue.dark.min_execution_shares)
                inside[:, k] = supplied[:, k, None] * np.where(enough, held, 0.0)
        kept = 1.0 - self._missed[:, None]
        return inside * kept, touch * kept, deeper * kept

    def _plan(
        self, view: ObservationView, floor_bps: np.ndarray, expected: tuple[np.ndarray, ...]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Cheapest parts (n, K) of the slice where the best quote left is at `floor_bps` (n,), and their cost (n,)."""
        order, response, (inside, touch, deeper) = self.market.order, self.spec.response, expected
        late = view.even_slices * (view.remaining - view.schedule_left)
        leave_bps = self.continuation[0] + self.continuation[1] * late
        left_s = order.step_s * order.horizon_steps * np.maximum(view.time_left, 1.0 / order.horizon_steps)
        x = math.log(2.0) * left_s / response.transient_half_life_s
        push = response.permanent_impact_bps_per_1000_shares
        push = (push + response.transient_impact_bps_per_1000_shares * -np.expm1(-x) / x)[:, None] * self._impact
        remaining = view.remaining * order.quantity_shares
        allowed = (view.offset_bps <= floor_bps[:, None] + 1e-6)[:, :, None]
        filled = inside + allowed * (touch + deeper)
        spacing_bps = self.spec.quotes.level_spacing_bps or self.spec.quotes.tick_bps
        costs = allowed * ((touch + deeper) * view.offset_bps[:, :, None] + 1.5 * spacing_bps * deeper)
        fixed_bps = self._fee_bps + push * remaining[:, None] - leave_bps[:, None]
        sent = (view.slice_shares[:, None] * np.arange(PARTS + 1) / PARTS)[:, None, :]
        costs = costs + filled * fixed_bps[:, :, None] + sent * (self._leak * remaining[:, None])[:, :, None]
        if self.market.order_protection:
            better = view.quoted & (view.offset_bps < floor_bps[:, None] - 1e-6)
            needed = np.where(better, view.size_shares * (1.0 - 1e-6), 0.0)
            costs = np.where(sent < needed[:, :, None], np.inf, costs)
        return _cheapest_parts(costs)

    def weights(self, view: ObservationView) -> np.ndarray:
        """Parts of the slice; in a later wave nothing where nothing is expected to fill."""
        expected, lowest = self._expected(view, self._supplied(view)), np.full(len(view.time_left), np.inf)
        chosen = np.zeros(view.offset_bps.shape)
        floor_bps = np.full(len(lowest), -np.inf)
        for _ in range(PRICES if self.market.order_protection else 1):
            above = view.quoted & (view.offset_bps > floor_bps[:, None] + 1e-6)
            floor_bps = np.where(above, view.offset_bps, np.inf).min(axis=1)
            if not self.market.order_protection:
                floor_bps[:] = np.inf
            parts, cost = self._plan(view, floor_bps, expected)
            better = cost < lowest
            chosen[better], lowest = parts[better], np.minimum(lowest, cost)
        chosen *= view.usable  # lots that nothing is expected to fill may lie anywhere
        self._asked = chosen * (view.slice_shares > 0.0)[:, None]
        return chosen
