"""A rollout buffer of whole episodes with their Monte-Carlo returns. Not for PPO or A2C: nothing is bootstrapped.

Where all episodes last H steps, take ``n_steps`` a multiple of H. Otherwise an episode that is unfinished at the end of
a rollout waits for its end. Waiting steps were taken by an earlier policy; their log-probabilities are computed again
and *not* corrected by importance weights. ``train/carried_fraction`` logs their share: long rollouts keep it small.
"""

from collections.abc import Callable, Generator
from typing import Any, Literal, get_args

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.buffers import DictRolloutBuffer, RolloutBuffer
from stable_baselines3.common.type_aliases import RolloutBufferSamples

Baseline = Literal["none", "mean", "value", "scenario"]

_STEP_FIELDS = ("observations", "actions", "rewards", "values", "log_probs")
_TRUNCATED = "TimeLimit.truncated"


def reward_to_go(rewards: np.ndarray, lengths: np.ndarray, gamma: float) -> np.ndarray:
    """Return ``G_t = r_t + gamma * G_{t+1}``, float64 ``(n_steps,)``, of episodes of ``lengths`` laid end to end.

    >>> reward_to_go(np.array([1.0, 2.0, 4.0, 8.0]), np.array([3, 1]), gamma=0.5).tolist()
    [3.0, 4.0, 4.0, 8.0]
    """
    returns = rewards.astype(np.float64)
    ends = np.cumsum(lengths) - 1
    # One pass per step counted from the end, over all the episodes that are that long.
    for steps_before_end in range(1, lengths.max(initial=0)):
        long_enough = lengths > steps_before_end
        ends, lengths = ends[long_enough], lengths[long_enough]
        at = ends - steps_before_end
        returns[at] += gamma * returns[at + 1]
    return returns


def leave_one_out_mean(returns: np.ndarray, step_in_episode: np.ndarray) -> np.ndarray:
    """Return, for every step, the mean return of the *other* episodes at the same step of theirs.

    With the episode's own return in the mean, the gradient of n episodes would shrink by ``1 - 1/n``. Where no other
    episode lasts that long the mean is 0, which is what the others still earned.

    >>> leave_one_out_mean(np.array([6.0, 5.0, 2.0, 1.0, 4.0]), np.array([0, 1, 0, 1, 0])).tolist()
    [3.0, 1.0, 5.0, 5.0, 4.0]
    """
    total = np.bincount(step_in_episode, weights=returns)[step_in_episode]
    count = np.bincount(step_in_episode)[step_in_episode]
    return np.where(count > 1, (total - returns) / np.maximum(count - 1, 1), 0.0)


class EpisodicRolloutBuffer(RolloutBuffer):
    """A rollout buffer that uses every step exactly once, in the rollout in which the step's episode ends.

    ``add`` fills arrays of shape ``(buffer_size, n_envs, ...)`` as in SB3. ``compute_returns_and_advantage`` replaces
    them by flat arrays, one row per step of the episodes that have ended, and keeps the unfinished tail of each
    environment until its episode ends. (To drop tails would favour short episodes.) Waiting steps are dropped where
    their episode never ends: when the environment was reset, or when a callback stopped a rollout halfway. They are not
    saved with the model; ``get_state`` returns them. Where no episode ends, there is no update.

    After that, ``returns`` is G and ``baselines`` is b of every step, both float64 ``(n_finished_steps,)``.

    Arguments are those of ``RolloutBuffer``, of which ``gae_lambda`` is not used, and

    :param baseline: ``"none"`` 0, ``"mean"`` see :func:`leave_one_out_mean`, ``"value"`` the critic's prediction when
        the step was taken
    :raises ValueError: if ``baseline`` is none of the three
    """

    def __init__(
        self,
        buffer_size: int,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        device: th.device | str = "auto",
        gae_lambda: float = 1.0,
        gamma: float = 1.0,
        n_envs: int = 1,
        baseline: Baseline = "none",
        envs_per_scenario: int = 1,
    ):
        if baseline not in get_args(Baseline):
            raise ValueError(f"baseline={baseline!r}: expected one of {', '.join(map(repr, get_args(Baseline)))}")
        if baseline == "scenario" and envs_per_scenario < 2:
            raise ValueError("baseline='scenario': expected envs_per_scenario of at least 2")
        self.baseline, self.envs_per_scenario = baseline, envs_per_scenario
        self.n_episodes = 0  # episodes ended in the rollout
        self.carried_fraction = 0.0  # share of their steps that was taken in earlier rollouts
        self._carried: dict[str, Any] = {}  # the waiting steps, ordered by environment, then by time
        self._carried_env = np.zeros(0, dtype=np.int64)  # the environment of each
        self._hidden_truncations: list[tuple[dict[str, Any], Any]] = []
        super().__init__(buffer_size, observation_space, action_space, device, gae_lambda, gamma, n_envs)

    def reset(self) -> None:
        """Make room for the next rollout; waiting steps stay."""
        if not self.generator_ready:  # the rollout before was stopped: a step, maybe an end, is missing
            self._carried, self._carried_env = {}, np.zeros(0, dtype=np.int64)
        self.n_episodes, self.carried_fraction = 0, 0.0
        super().reset()

    def get_state(self) -> dict[str, Any]:
        """What outlives a rollout: the waiting steps, for an exact resume."""
        return {"carried": self._carried, "carried_env": self._carried_env}

    def set_state(self, state: dict[str, Any]) -> None:
        """Put back what `get_state` gave."""
        self._carried, self._carried_env = state["carried"], state["carried_env"]

    def hide_truncations(self, infos: list[dict[str, Any]], dones: np.ndarray) -> None:
        """Make truncated episodes look terminated until the next ``add``, which puts the flags back.

        SB3 adds ``gamma * V(terminal observation)`` to the reward of a truncated step just before it calls ``add``. A
        Monte-Carlo return has no such term.
        """
        for info in (infos[env] for env in np.flatnonzero(dones)):
            if info.get(_TRUNCATED, False):
                self._hidden_truncations.append((info, info[_TRUNCATED]))
                info[_TRUNCATED] = False

    def add(self, *args: Any, **kwargs: Any) -> None:
        """Store one step of every environment, see ``RolloutBuffer.add``."""
        for info, truncated in self._hidden_truncations:
            info[_TRUNCATED] = truncated
        self._hidden_truncations.clear()
        super().add(*args, **kwargs)

    def compute_returns_and_advantage(self, last_values: th.Tensor, dones: np.ndarray) -> None:
        """Turn the rollout into whole episodes, with ``returns`` and ``baselines``.

        :param last_values: ignored, nothing is bootstrapped
        :param dones: whether the last step ended an episode, shape ``(n_envs,)``
        """
        steps, env, done, carried = self._join_waiting_steps(dones)
        # A step's episode has ended if the next end in the list is one of its own environment.
        ends = np.flatnonzero(done)
        next_end = np.searchsorted(ends, np.arange(len(env)))
        finished = np.append(env[ends], -1)[next_end] == env
        self._carried, self._carried_env = _select(steps, ~finished), env[~finished]
        for name, array in _select(steps, finished).items():
            setattr(self, name, array)

        lengths = np.diff(np.flatnonzero(done[finished]), prepend=-1)
        self.returns = reward_to_go(self.rewards, lengths, self.gamma)
        self.baselines = np.zeros_like(self.returns)
        if self.baseline == "value":
            self.baselines = self.values.astype(np.float64)
        elif self.baseline == "mean":
            first_steps = np.repeat(np.cumsum(lengths) - lengths, lengths)
            self.baselines = leave_one_out_mean(self.returns, np.arange(len(self.returns)) - first_steps)
        elif self.baseline == "scenario":  # neighbours' steps correspond, one by one
            of = env[finished]
            nth = np.arange(len(of)) - np.searchsorted(of, of)
            self.baselines = leave_one_out_mean(self.returns, of // self.envs_per_scenario * len(of) + nth)
        self.n_episodes = len(lengths)
        self.carried_fraction = float(carried[finished].mean()) if len(lengths) else 0.0
        self.generator_ready = True

    @property
    def advantages(self) -> np.ndarray:
        """G - b as SB3's samples carry it, float32; ``REINFORCE.train`` computes G - b itself."""
        return (self.returns - self.baselines).astype(np.float32)

    @advantages.setter
    def advantages(self, zeros: np.ndarray) -> None:
        """Nothing: SB3 makes room for them in ``reset``."""

    def to_torch(self, array: np.ndarray, copy: bool = True) -> th.Tensor:
        """A tensor; numbers of a step are float64 here and float32 there."""
        return super().to_torch(array.astype(np.float32, copy=False) if array.ndim == 1 else array, copy)

    def get(self, batch_size: int | None = None) -> Generator[RolloutBufferSamples, None, None]:
        """Yield the finished steps: all at once by default, else in shuffled batches of ``batch_size``."""
        assert self.generator_ready, "compute_returns_and_advantage() comes first"
        n_finished = len(self.returns)
        if batch_size is None:
            yield self._get_samples(np.arange(n_finished))
            return
        order = np.random.permutation(n_finished)  # noqa: NPY002 (SB3 seeds the global generator)
        for start in range(0, n_finished, batch_size):
            yield self._get_samples(order[start : start + batch_size])

    def _join_waiting_steps(self, dones: np.ndarray) -> tuple[dict[str, Any], np.ndarray, np.ndarray, np.ndarray]:
        """Steps by env and time, waiting ones first; of each: its env, if it ended an episode, if it waited."""
        rollout = _map(_flatten, {name: getattr(self, name) for name in _STEP_FIELDS})
        env = np.repeat(np.arange(self.n_envs), self.buffer_size)
        done = _flatten(np.concatenate((self.episode_starts[1:], dones[None]))).astype(bool)

        # Where a rollout opens with the start of an episode, the environment abandoned the waiting steps.
        continued = ~self.episode_starts[0].astype(bool)[self._carried_env]
        n_carried = int(continued.sum())
        carried = np.arange(n_carried + len(env)) < n_carried
        if n_carried == 0:
            return rollout, env, done, carried
        env = np.concatenate((self._carried_env[continued], env))
        done = np.concatenate((np.zeros(n_carried, dtype=bool), done))
        by_env = np.argsort(env, kind="stable")
        steps = _map(lambda *both: np.concatenate(both)[by_env], _select(self._carried, continued), rollout)
        return steps, env[by_env], done[by_env], carried[by_env]


class DictEpisodicRolloutBuffer(EpisodicRolloutBuffer, DictRolloutBuffer):  # type: ignore[misc]  # get()
    """:class:`EpisodicRolloutBuffer` for dict observations."""


def episodic_buffer_class(
    observation_space: spaces.Space, wanted: type[RolloutBuffer] | None = None
) -> type[EpisodicRolloutBuffer]:
    """The buffer class for an observation space, or the wanted class; SB3's own two are replaced by the episodic ones.

    :raises TypeError: if another class is wanted that is not episodic
    """
    if wanted is None:
        return DictEpisodicRolloutBuffer if isinstance(observation_space, spaces.Dict) else EpisodicRolloutBuffer
    chosen = {RolloutBuffer: EpisodicRolloutBuffer, DictRolloutBuffer: DictEpisodicRolloutBuffer}.get(wanted, wanted)
    if not issubclass(chosen, EpisodicRolloutBuffer):
        what = f"rollout_buffer_class={chosen.__name__} bootstraps"
        raise TypeError(f"{what}: expected a subclass of EpisodicRolloutBuffer")
    return chosen


def _map(function: Callable[..., np.ndarray], *steps: Any) -> Any:
    """Apply to arrays of one row per step, which are nested in dicts because observations may be a dict."""
    if isinstance(steps[0], dict):
        return {key: _map(function, *(each[key] for each in steps)) for key in steps[0]}
    return function(*steps)


def _flatten(array: np.ndarray) -> np.ndarray:
    """``(n_steps, n_envs, ...)`` to ``(n_envs * n_steps, ...)``, an environment's steps side by side."""
    return array.swapaxes(0, 1).reshape(-1, *array.shape[2:])


def _select(steps: Any, rows: np.ndarray) -> Any:
    return _map(lambda array: array[rows], steps)
