"""A checker for Stable-Baselines3 ``VecEnv``s, which SB3 lacks: it proves what learners rely on silently.

The checker takes any ``VecEnv``: this package's, ``DummyVecEnv``, or either under wrappers. It does not check routing.
For single envs there are the ``check_env`` of Gymnasium and of SB3.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from stable_baselines3.common.vec_env import SubprocVecEnv, VecEnv, VecEnvWrapper, VecNormalize

_UNKNOWN = "no_env_has_an_attribute_of_this_name"
_MARK = "check_vec_env_mark"


def check_vec_env(
    venv: VecEnv, steps: int = 128, seed: int = 0, make_single: Callable[[int], gym.Env] | None = None
) -> None:
    """Prove that a ``VecEnv`` keeps the contract that SB3's learners build on.

    Checked: shapes and dtypes; arrays that nobody writes to again, and that may be written to; a list of
    distinct info dicts; same-step autoreset with ``terminal_observation``, ``TimeLimit.truncated`` and
    ``reset_infos``; seeds that wait for the next reset and reproduce a trajectory bit for bit; attributes and
    methods by index; ``action_masks`` where there are any. The env is left reset, statistics of
    ``VecNormalize`` as they were.

    Args:
        venv: the env; its members must be deterministic given seed and actions.
        steps: how many steps to play, several times over; at least one episode must end within them.
        seed: of env 0.
        make_single: builds a lone env for member i; if given, member i must equal it, seeded ``seed + i``,
            bit for bit and across episode borders (below any ``VecNormalize``).

    Raises:
        AssertionError: a promise is broken; the message names the trap.

    Example:
        >>> import sor_sb3
        >>> sor_sb3.check_vec_env(sor_sb3.make_vec_env("OrderSplit-v0", market="notebook", n_envs=2))
    """
    with _frozen_statistics(venv):
        _check_spaces(venv)
        _check_access(venv)
        _check_masks(venv)
        played = _play(venv, seed, steps)
        _check_terminals(played, steps)
        actions = played.actions
        _check_same(played, _play(venv, seed, steps, actions), "playing the same seed and actions again", "seed()")
        _check_same(
            played,
            _play(venv, seed, steps, actions, spoil=True),
            "writing into what reset() and step() returned",
            "step() must return arrays and dicts that the env never reads again, for SB3 writes into them",
        )
        _check_seed_waits(venv, played, seed, steps)
        if make_single is not None:
            inner = _below_normalisation(venv)
            raw = played if inner is venv else _play(inner, seed, steps, actions)
            for i in range(venv.num_envs):
                _check_member(raw, i, make_single(i), seed + i)
        venv.reset()


# -------------------------------------------------------------------------------------------- playing a game


@dataclass
class _Played:
    """Copies of all that a game returned; observations as dicts of arrays, one step after another."""

    actions: list[np.ndarray] = field(default_factory=list)
    observations: list[dict[str, np.ndarray]] = field(default_factory=list)
    rewards: list[np.ndarray] = field(default_factory=list)
    dones: list[np.ndarray] = field(default_factory=list)
    terminals: list[dict[int, dict[str, np.ndarray]]] = field(default_factory=list)
    kept: list[tuple[np.ndarray, np.ndarray, str]] = field(default_factory=list)  # returned array, its copy, what


def _play(
    venv: VecEnv,
    seed: int,
    steps: int,
    actions: list[np.ndarray] | None = None,
    spoil: bool = False,
    reseed: tuple[int, int] | None = None,
) -> _Played:
    """Play from a seeded reset, checking each step; `actions` are drawn at random unless given.

    `spoil` overwrites whatever the env returned; `reseed` is (step, seed) of a seed given in mid-game.
    """
    played = _Played()
    space = deepcopy(venv.action_space)
    space.seed(seed)
    _start(venv, played, seed, spoil)
    for t in range(steps):
        if reseed is not None and t == reseed[0]:
            venv.seed(reseed[1])
        chosen = _draw_actions(venv, space) if actions is None else actions[t].copy()
        played.actions.append(chosen.copy())
        _mark_reset_infos(venv)
        observation, rewards, dones, infos = venv.step(chosen)
        assert np.array_equal(chosen, played.actions[-1]), "step() wrote into the caller's actions"
        _check_step(venv, observation, rewards, dones, infos)
        _check_autoreset(venv, observation, dones, infos)
        _keep(played, observation, rewards, dones, infos)
        if spoil:
            _spoil(observation, rewards, dones, infos)
    if not spoil:
        for returned, copy, what in played.kept:
            assert _equal(returned, copy), (
                f"{what} returned by one step changed in a later one: return fresh arrays, not an internal "
                "buffer, for SB3 stores the last observation after the next step"
            )
    return played


def _start(venv: VecEnv, played: _Played, seed: int, spoil: bool) -> None:
    seeds = venv.seed(seed)
    assert list(seeds) == [seed + i for i in range(venv.num_envs)], (
        f"seed({seed}) returned {seeds}; env i of n must get the seed s + i"
    )
    _mark_reset_infos(venv)
    observation = venv.reset()
    assert not isinstance(observation, tuple) or isinstance(venv.observation_space, spaces.Tuple), (
        "reset() returned a tuple; a VecEnv returns observations only and keeps the infos in reset_infos"
    )
    _check_observation(venv, observation)
    _check_reset_infos(venv, range(venv.num_envs), "reset()")
    assert all(s is None for s in venv.unwrapped._seeds), (
        "reset() did not consume the seeds: call _reset_seeds(), or every reset replays the same episode"
    )
    assert not any(venv.unwrapped._options), "reset() did not consume the options: call _reset_options()"
    played.observations.append(_copies(observation))
    played.kept += [(a, a.copy(), "an observation") for a in _leaves(observation).values()]
    if spoil:
        _overwrite(observation)


def _draw_actions(venv: VecEnv, space: spaces.Space) -> np.ndarray:
    """Random actions, one per env, masked ones left out where the space is discrete."""
    if isinstance(space, spaces.Discrete) and venv.has_attr("action_masks"):
        masks = venv.env_method("action_masks")
        return np.array([space.sample(mask=np.asarray(mask, dtype=np.int8)) for mask in masks])
    return np.array([space.sample() for _ in range(venv.num_envs)])


def _keep(played: _Played, observation: Any, rewards: np.ndarray, dones: np.ndarray, infos: list[dict]) -> None:
    ended = np.flatnonzero(dones).tolist()
    played.observations.append(_copies(observation))
    played.rewards.append(rewards.copy())
    played.dones.append(dones.copy())
    played.terminals.append({i: _copies(infos[i]["terminal_observation"]) for i in ended})
    played.kept += [(a, a.copy(), "an observation") for a in _leaves(observation).values()]
    played.kept += [(rewards, rewards.copy(), "rewards"), (dones, dones.copy(), "dones")]
    for i in ended:
        last = _leaves(infos[i]["terminal_observation"]).values()
        played.kept += [(a, a.copy(), "a terminal_observation") for a in last if isinstance(a, np.ndarray)]


def _spoil(observation: Any, rewards: np.ndarray, dones: np.ndarray, infos: list[dict]) -> None:
    _overwrite(observation)
    rewards += 77
    dones[:] = ~dones
    for info in infos:
        info.clear()
        info[_MARK] = True
    infos.clear()


def _overwrite(observation: Any) -> None:
    for array in _leaves(observation).values():
        assert array.flags.writeable, "an observation is read-only; SB3 and its wrappers may write into it"
        array[...] = 1


# ------------------------------------------------------------------------------------------- single promises


def _check_spaces(venv: VecEnv) -> None:
    assert isinstance(venv, VecEnv), f"{type(venv).__name__} is no stable_baselines3 VecEnv"
    space = venv.action_space
    if isinstance(space, spaces.Box):
        assert np.all(np.isfinite(space.low)) and np.all(np.isfinite(space.high)), (
            "the action space has infinite bounds; SB3's algorithms refuse them"
        )


def _check_observation(venv: VecEnv, observation: Any) -> None:
    """`observation` has a row per env, of the shapes and dtypes of the space, and each row lies inside it."""
    parts = _parts(venv.observation_space)
    leaves = _leaves(observation)
    assert set(leaves) == set(parts), f"observations have the parts {sorted(leaves)}; expected {sorted(parts)}"
    normalised = _normalised(venv)
    for name, space in parts.items():
        array, what = leaves[name], f"observation{' ' + repr(name) if name else ''}"
        assert isinstance(array, np.ndarray), f"the {what} is a {type(array).__name__}; expected a NumPy array"
        shape = (venv.num_envs, *(space.shape or ()))
        assert array.shape == shape, f"the {what} has shape {array.shape}; expected {shape}"
        if normalised:
            continue
        assert array.dtype == space.dtype, (
            f"the {what} has dtype {array.dtype}; expected {space.dtype}, for SB3's buffers use the space's"
        )
        for i, row in enumerate(array):
            assert space.contains(_element(space, row)), f"the {what} of env {i} lies outside the observation space"


def _check_step(venv: VecEnv, observation: Any, rewards: Any, dones: Any, infos: Any) -> None:
    n = venv.num_envs
    _check_observation(venv, observation)
    for what, array, dtype in (("rewards", rewards, np.float32), ("dones", dones, np.bool_)):
        assert isinstance(array, np.ndarray), f"{what} are a {type(array).__name__}; expected a NumPy array"
        assert array.shape == (n,), f"{what} have shape {array.shape}; expected {(n,)}"
        assert array.dtype == dtype, f"{what} have dtype {array.dtype}; expected {np.dtype(dtype)}"
    assert isinstance(infos, list), f"infos are a {type(infos).__name__}; expected a list of {n} dicts"
    assert len(infos) == n and all(isinstance(info, dict) for info in infos), f"infos are not {n} dicts"
    assert len({id(info) for info in infos}) == n, (
        "envs share an info dict; each needs its own, for wrappers write into it"
    )
    assert not any(_MARK in info for info in infos), "an info dict of an earlier step was returned again"


def _check_autoreset(venv: VecEnv, observation: Any, dones: np.ndarray, infos: list[dict]) -> None:
    """Where an episode ended the info has the last observation; the row is the next episode's first."""
    parts = _parts(venv.observation_space)
    for i, (done, info) in enumerate(zip(dones, infos, strict=True)):
        if not done:
            assert "terminal_observation" not in info, f"env {i} is not done but has a terminal_observation"
            continue
        assert "terminal_observation" in info, (
            f"env {i} is done and its info lacks terminal_observation, which SB3 bootstraps from"
        )
        assert isinstance(info.get("TimeLimit.truncated"), (bool, np.bool_)), (
            f"env {i} is done and its info lacks a bool TimeLimit.truncated, by which SB3 tells ends apart"
        )
        last = _leaves(info["terminal_observation"])
        assert set(last) == set(parts), f"terminal_observation of env {i} has the parts {sorted(last)}"
        for name, space in parts.items():
            assert not np.shares_memory(last[name], _leaves(observation)[name]), (
                f"terminal_observation of env {i} is a view of the returned rows; copy it before the reset"
            )
            shape = np.shape(last[name])
            assert shape == (space.shape or ()), f"terminal_observation of env {i} has shape {shape}"
            assert _normalised(venv) or space.contains(_element(space, last[name])), (
                f"terminal_observation of env {i} lies outside the observation space"
            )
    _check_reset_infos(venv, np.flatnonzero(dones).tolist(), "an autoreset")


def _mark_reset_infos(venv: VecEnv) -> None:
    for info in venv.unwrapped.reset_infos:
        info[_MARK] = True


def _check_reset_infos(venv: VecEnv, which: Any, when: str) -> None:
    infos = venv.unwrapped.reset_infos
    assert len(infos) == venv.num_envs and all(isinstance(info, dict) for info in infos), (
        f"reset_infos are not {venv.num_envs} dicts after {when}"
    )
    stale = [i for i in which if _MARK in infos[i]]
    assert not stale, f"{when} left reset_infos of env {stale[:1]} as they were; fill them with the new episode's info"


def _check_terminals(played: _Played, steps: int) -> None:
    """Some episode ended, and terminal observations are not the first ones of the episodes after them."""
    ends = [(t, i) for t, dones in enumerate(played.dones) for i in np.flatnonzero(dones).tolist()]
    assert ends, f"no episode ended in {steps} steps, so autoreset is unproven; give more steps="
    rows = played.observations
    late = all(_equal(last[k], rows[t + 1][k][i]) for t, i in ends for last in [played.terminals[t][i]] for k in last)
    moving = any(not _equal(rows[t][k], rows[t + 1][k]) for t in range(len(rows) - 1) for k in rows[t])
    assert not (late and moving), (
        "every terminal_observation equals the next episode's first observation: take it before the reset"
    )


def _check_seed_waits(venv: VecEnv, played: _Played, seed: int, steps: int) -> None:
    """A seed given in mid-game changes nothing until the next reset, and then it does."""
    other = seed + 1_000
    disturbed = _play(venv, seed, steps, played.actions, reseed=(steps // 2, other))
    trap = "seed() must wait for the next reset() and leave autoresets alone"
    _check_same(played, disturbed, "a seed given in mid-game", trap)
    waited = _copies(venv.reset())
    venv.seed(other)
    again = _copies(venv.reset())
    assert all(_equal(waited[k], again[k]) for k in again), "a seed given in mid-game was lost before the next reset()"


def _check_same(first: _Played, second: _Played, doing: str, trap: str) -> None:
    for t, (a, b) in enumerate(zip(first.observations, second.observations, strict=True)):
        assert all(_equal(a[k], b[k]) for k in a), f"{doing} changed the observations after {t} steps: {trap}"
    for what in ("rewards", "dones"):
        for t, (x, y) in enumerate(zip(getattr(first, what), getattr(second, what), strict=True)):
            assert _equal(x, y), f"{doing} changed the {what} of step {t}: {trap}"
    for t, (ends, others) in enumerate(zip(first.terminals, second.terminals, strict=True)):
        same = all(_equal(ends[i][k], others[i][k]) for i in ends for k in ends[i])
        assert same, f"{doing} changed a terminal_observation of step {t}: {trap}"


def _check_member(played: _Played, i: int, env: gym.Env, seed: int) -> None:
    """Env i's rows equal the lone `env` seeded `seed`, bit for bit, across episode borders."""
    trap = f"env {i} differs from a lone env seeded {seed}"
    first, _ = env.reset(seed=seed)
    _check_row(played.observations[0], i, first, f"{trap} at the first reset")
    for t, actions in enumerate(played.actions):
        last, reward, terminated, truncated, _ = env.step(actions[i])
        assert np.float32(reward) == played.rewards[t][i], (
            f"{trap} in the reward of step {t}: {played.rewards[t][i]!r}, not {np.float32(reward)!r}"
        )
        done = bool(terminated or truncated)
        assert done == bool(played.dones[t][i]), f"{trap} in whether step {t} ends the episode"
        if done:
            terminal = played.terminals[t][i]
            _check_row({k: v[None] for k, v in terminal.items()}, 0, last, f"{trap} in terminal_observation")
            last, _ = env.reset()
        _check_row(played.observations[t + 1], i, last, f"{trap} after step {t}{', an autoreset' if done else ''}")
    env.close()


def _check_row(observations: dict[str, np.ndarray], i: int, expected: Any, what: str) -> None:
    for name, value in _leaves(expected).items():
        assert _equal(observations[name][i], np.asarray(value)), f"{what}: the observations are not equal"


def _check_access(venv: VecEnv) -> None:
    """get_attr, has_attr, set_attr, env_method and env_is_wrapped, for all envs, for one, and for a list."""
    n = venv.num_envs
    chosen = [0, n - 1]
    for indices, count in ((None, n), (0, 1), (chosen, 2)):
        calls = {
            "get_attr": venv.get_attr("render_mode", indices),
            "env_method": venv.env_method("__str__", indices=indices),
            "env_is_wrapped": venv.env_is_wrapped(gym.Wrapper, indices),
        }
        for name, values in calls.items():
            assert len(values) == count, f"{name} with indices={indices} returned {len(values)} values, not {count}"
        wrapped = calls["env_is_wrapped"]
        assert all(isinstance(w, (bool, np.bool_)) for w in wrapped), "env_is_wrapped must return bools"
        mark = f"set with indices={indices}"
        venv.set_attr(_MARK, mark, indices)
        assert venv.get_attr(_MARK, indices) == [mark] * count, f"set_attr with indices={indices} did not take effect"
    assert venv.has_attr("render_mode"), "has_attr('render_mode') is False; SB3 reads that attribute"
    assert not venv.has_attr(_UNKNOWN), "has_attr is True for an attribute that no env has"
    if isinstance(venv.unwrapped, SubprocVecEnv):
        return  # its workers die of an unknown name, a known limit of SB3
    for name, call in (("get_attr", venv.get_attr), ("env_method", venv.env_method)):
        try:
            call(_UNKNOWN)
        except AttributeError:
            continue
        except Exception as error:
            raise AssertionError(
                f"{name} of an unknown name raised {type(error).__name__}; SB3 expects AttributeError"
            ) from error
        raise AssertionError(f"{name} of an unknown name must raise AttributeError, or has_attr cannot work")


def _check_masks(venv: VecEnv) -> None:
    """Where there are action masks, `env_method` gives a bool row per env, one entry per action."""
    if not venv.has_attr("action_masks"):
        return
    venv.reset()
    length = _mask_length(venv.action_space)
    for indices, count in ((None, venv.num_envs), (0, 1), ([0, venv.num_envs - 1], 2)):
        masks = venv.env_method("action_masks", indices=indices)
        assert len(masks) == count, f"action_masks gave {len(masks)} rows with indices={indices}; expected {count}"
        for i, mask in enumerate(masks):
            row = np.asarray(mask)
            assert row.shape == (length,), f"the action mask of env {i} has shape {row.shape}; expected ({length},)"
            assert row.dtype == np.bool_, f"the action mask of env {i} has dtype {row.dtype}; expected bool"
            assert row.any(), f"the action mask of env {i} allows nothing; MaskablePPO then divides by zero"


def _mask_length(space: spaces.Space) -> int:
    if isinstance(space, spaces.Discrete):
        return int(space.n)
    if isinstance(space, spaces.MultiDiscrete):
        return int(np.sum(space.nvec))
    if isinstance(space, spaces.MultiBinary):
        return 2 * int(np.prod(space.shape))
    raise AssertionError(f"there are action_masks but the action space is {space}; masks need a discrete one")


# --------------------------------------------------------------------------------------------------- helpers


def _chain(venv: VecEnv) -> Iterator[VecEnv]:
    while isinstance(venv, VecEnvWrapper):
        yield venv
        venv = venv.venv
    yield venv


def _normalised(venv: VecEnv) -> bool:
    return any(isinstance(layer, VecNormalize) for layer in _chain(venv))


def _below_normalisation(venv: VecEnv) -> VecEnv:
    """The outermost layer that no VecNormalize lies under."""
    below = venv
    for layer in _chain(venv):
        if isinstance(layer, VecNormalize):
            below = layer.venv
    return below


@contextmanager
def _frozen_statistics(venv: VecEnv) -> Iterator[None]:
    """VecNormalize with its running statistics held still, so that a game can be played again."""
    layers = [layer for layer in _chain(venv) if isinstance(layer, VecNormalize)]
    training = [layer.training for layer in layers]
    for layer in layers:
        layer.training = False
    try:
        yield
    finally:
        for layer, was in zip(layers, training, strict=True):
            layer.training = was


def _parts(space: spaces.Space) -> dict[str, spaces.Space]:
    if isinstance(space, spaces.Dict):
        return dict(space.spaces)
    if isinstance(space, spaces.Tuple):
        return {str(i): part for i, part in enumerate(space.spaces)}
    return {"": space}


def _leaves(observation: Any) -> dict[str, Any]:
    if isinstance(observation, dict):
        return observation
    if isinstance(observation, tuple):
        return {str(i): part for i, part in enumerate(observation)}
    return {"": observation}


def _copies(observation: Any) -> dict[str, np.ndarray]:
    return {name: np.array(value) for name, value in _leaves(observation).items()}


def _element(space: spaces.Space, row: Any) -> Any:
    """A row as `space.contains` wants it: NumPy scalars for Discrete."""
    return np.asarray(row)[()] if isinstance(space, spaces.Discrete) else np.asarray(row)


def _equal(a: np.ndarray, b: np.ndarray) -> bool:
    """Same shape and values, NaNs alike."""
    a, b = np.asarray(a), np.asarray(b)
    return np.array_equal(a, b, equal_nan=a.dtype.kind == "f" and b.dtype.kind == "f")
