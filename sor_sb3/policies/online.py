"""Rules that learn from their own fills: what they see of these, how they are trained, what `predict` hands on."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from sor_sb3.envs.core import RoutingCore, whole_number
from sor_sb3.envs.observation import ObservationView
from sor_sb3.errors import UserError
from sor_sb3.market.spec import MarketSpec
from sor_sb3.policies.learning_rules import State
from sor_sb3.policies.learning_rules.allocations import whole_units
from sor_sb3.policies.protocol import Router
from sor_sb3.policies.tuning import tuned_constants
from sor_sb3.simulator.execution import MEMORY

TRAINING_SCENARIOS = 200
_trained: dict[Any, State] = {}


@dataclass(frozen=True)
class Answers:
    """What came back since the decision or wave before, of children that are learned from; arrays (n, K)."""

    asked: np.ndarray  # shares; 0 where no answer came
    filled: np.ndarray  # shares
    rejected: np.ndarray  # bool
    noted: np.ndarray  # (n, K, C): `note` as it was when the child went out


class OnlineRouter(Router):
    """A rule that learns from what its own children filled, which its observations show, and from nothing else.

    A child's fill is read from the venue's fill ratio, which the last answer moves by a known weight. The rule first
    lives through `training_scenarios` of the data split "train", one after another in the order of their seeds. After
    that its learning is over, so that a batch and single runs agree; with `online` it goes on, each row of a batch
    living its own life from scenario to scenario as long as ``predict``'s `state` is handed on.

    `state` holds, by row, shares that are not answered yet, fill ratios as last seen, notes of the decision, how often
    the rule was asked, and what it has learned where that still changes. Draws depend on `seed` and on that number.

    Constants that are not given are tuned on validation scenarios (:func:`sor_sb3.policies.tuning.tuned_constants`).
    """

    learns: ClassVar[bool] = True
    group = "literature"
    n_notes: ClassVar[int] = 0
    within_episode: ClassVar[bool] = False  # whether what is learned is forgotten at the end of an episode

    def __init__(
        self,
        market: MarketSpec,
        env_id: str = "OrderSplit-v1",
        seed: int = 0,
        training_scenarios: int = TRAINING_SCENARIOS,
        online: bool = False,
        **constants: float,
    ) -> None:
        super().__init__(market, env_id, seed)
        if unknown := [name for name in constants if name not in self.constants]:
            known = ", ".join(["training_scenarios", "online", *self.constants])
            raise UserError(f"router '{self.name}' has no option '{unknown[0]}'; expected one of {known}")
        if not self.fits(market):
            raise UserError(f"router '{self.name}' means nothing in market '{market.name}'; leave it out")
        if len(constants) < len(self.constants):
            constants = tuned_constants(type(self), market, self._lives_in) | constants
        self.set, self.online = {name: float(value) for name, value in constants.items()}, bool(online)
        self.training_scenarios = whole_number("training_scenarios", training_scenarios, 0)
        self._make_learner()
        self._now = self._learned = self.start(1)
        self._rng: np.random.Generator | None = None
        if not self.within_episode and self.training_scenarios:
            learned = self._train()
            self._now, self._learned, self._rng = learned, learned, None

    @abstractmethod
    def _make_learner(self) -> None:
        """Set up what `start` and `learn` need."""

    @abstractmethod
    def start(self, n: int) -> State:
        """What is known before the first answer, arrays (n, ...)."""

    @abstractmethod
    def learn(self, learned: State, answers: Answers, view: ObservationView) -> State:
        """What is known after these answers; a new state."""

    def note(self, view: ObservationView) -> np.ndarray:
        """What to remember of each venue until its answer, (n, K, C)."""
        return np.zeros((*view.open.shape, 0))

    def is_learned_from(self, view: ObservationView) -> np.ndarray:
        """bool (n,): whether children that go out now are learned from. Those of a first wave."""
        return ~view.is_later

    def predict(
        self,
        observation: np.ndarray | dict[str, np.ndarray],
        state: tuple[np.ndarray, ...] | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
        **kwargs: Any,
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...] | None]:
        """Actions for a batch of observations (N, D), or for one (D,), and the state to hand on."""
        rows = np.asarray(observation)
        actions, state = self._step(np.atleast_2d(rows), state, episode_start, self.online)
        return (actions if rows.ndim > 1 else actions[0]), state

    def _step(
        self, rows: np.ndarray, state: tuple[np.ndarray, ...] | None, begins: np.ndarray | None, learning: bool
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
        view, n = ObservationView.of(rows, self.market), len(rows)
        carried = learning or self.within_episode
        asked, ratio, noted, calls, *learned = state if state is not None else self._fresh(n, carried)
        new = np.broadcast_to(False if begins is None else begins, (n,))
        if new.any():
            asked, ratio = np.where(new[:, None], 0.0, asked), np.where(new[:, None], 1.0, ratio)
            if self.within_episode:
                learned = [np.where(along(new, a), b, a) for a, b in zip(learned, self.start(n), strict=True)]
        known: State = tuple(learned) if carried else self._learned
        waits = (asked > 0.0) & view.busy
        if carried:
            known = self.learn(known, self._answers(view, asked, ratio, noted, waits), view)
        bits = np.random.Philox(key=self.seed, counter=int(calls[0])) if learning else None
        self._now, self._rng = known, np.random.Generator(bits) if bits else None
        actions = self.answer(view)
        sent = self._sent(view, actions) * self.is_learned_from(view)[:, None]
        noted = np.where(waits[:, :, None], noted, self.note(view))
        after = (np.where(waits, asked, sent), view.fill_ratio, noted, calls + 1)
        return actions, (*after, *(known if carried else ()))

    def _fresh(self, n: int, carried: bool) -> tuple[np.ndarray, ...]:
        nothing = np.zeros((n, self.market.n_venues))
        learned = [np.repeat(array, n, axis=0) for array in self._learned] if carried else []
        noted = np.zeros((n, self.market.n_venues, self.n_notes))
        return nothing, np.ones_like(nothing), noted, np.zeros(n, np.int64), *learned

    def _answers(
        self, view: ObservationView, asked: np.ndarray, ratio: np.ndarray, noted: np.ndarray, waits: np.ndarray
    ) -> Answers:
        part = np.clip((view.fill_ratio - MEMORY * ratio) / (1.0 - MEMORY), 0.0, 1.0)
        part = np.where(part > 1.0 - 1e-5, 1.0, np.where(part < 1e-5, 0.0, part))  # float32 rounding
        asked = np.where(waits, 0.0, asked)
        return Answers(asked, asked * part, (asked > 0.0) & (view.reject == 1.0), noted)

    def _sent(self, view: ObservationView, actions: np.ndarray) -> np.ndarray:
        """Shares (n, K) that go out with these actions, in whole lots where the market has them."""
        order = self.market.order
        weights, pace = self.action_adapter.decode(actions, len(actions), view.is_later)
        free = np.maximum(view.remaining - view.in_flight_share, 0.0) * order.quantity_shares
        free = np.where(view.is_later, view.slice_shares, free)
        total = np.minimum(view.slice_shares, free) if pace is None else pace * free
        if order.lot_shares:
            offered = np.ceil(free / order.lot_shares - 1e-4)
            if pace is not None:
                total = np.floor(pace * offered + 0.5) / np.maximum(offered, 1.0) * free
            lots = np.maximum(np.ceil(total / order.lot_shares - 1e-4), 1.0)  # observed to float32 rounding
            by_name = np.argsort(self.market.venue_names, kind="stable")  # which breaks ties of remainders
            units = whole_units((weights * lots[:, None])[:, by_name], np.floor(weights.sum(axis=1) * lots + 1e-6))
            return units[:, np.argsort(by_name)] * (total / lots)[:, None] * ~view.busy
        return weights * total[:, None] * ~view.busy

    def _train(self) -> State:
        """What is learned from the training scenarios; found once a process."""
        constants = tuple(sorted(self.set.items()))
        key = type(self), self._lives_in, self.market.model_dump_json(), constants, self.training_scenarios, self.seed
        if key not in _trained:
            core = RoutingCore(self.env_id, self.market, 1, "train")
            state: tuple[np.ndarray, ...] | None = None
            for seed in range(self.training_scenarios):
                core.seed([seed])
                rows, begins, done = core.reset(), np.ones(1, bool), np.zeros(1, bool)
                while not done[0]:
                    actions, state = self._step(rows, state, begins, True)
                    rows, _, done = core.step(actions)
                    begins = np.zeros(1, bool)
            assert state is not None
            _trained[key] = tuple(state[4:])
        return _trained[key]

    @property
    def _lives_in(self) -> str:
        """Where it learns: it lets nothing rest, so that it lives the same life in ``OrderExecute-v1``."""
        return "OrderExecute-v1" if self.action_adapter.rests else self.action_adapter.env_id

    @property
    def rounds(self) -> int:
        """Decisions of the training scenarios, of `TRAINING_SCENARIOS` where there are none."""
        return (self.training_scenarios or TRAINING_SCENARIOS) * self.market.order.horizon_steps


def along(rows: np.ndarray, array: np.ndarray) -> np.ndarray:
    """One number a row (n,), so shaped that it goes with an array (n, ...)."""
    return rows.reshape(-1, *[1] * (array.ndim - 1))


def best_all_in_bps(view: ObservationView, otherwise_bps: float) -> np.ndarray:
    """The lowest far touch plus fee of a venue that quotes (n,), `otherwise_bps` where none does."""
    best = np.where(view.quoted, view.offset_bps + view.fee_bps, np.inf).min(axis=1)
    return np.where(np.isfinite(best), best, otherwise_bps)
