"""A checker for Stable-Baselines3 ``VecEnv``s, which SB3 lacks: it proves what learners rely on silently."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from itertools import pairwise
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
    """Prove that a ``VecEnv``, of this package or any other, keeps the contract that SB3's learners build on.

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
        >>> sor_sb3.check_vec_env(sor_sb3.make_vec_env("OrderSplit-v1", market="notebook", n_envs=2))
    """
    assert isinstance(venv, VecEnv), f"{type(venv).__name__} is no stable_baselines3 VecEnv"
    bounds = [venv.action_space.low, venv.action_space.high] if isinstance(venv.action_space, spaces.Box) else []
    assert np.isfinite(bounds).all(), "the action space has infinite bounds; SB3's algorithms refuse them"
    with _frozen_statistics(venv):
        _check_access(venv)
        _check_masks(venv)
        game = _play(venv, seed, steps)
        actions = game.actions
        _check_terminals(game)
        _check_same(game, _play(venv, seed, steps, actions), "playing the same seed and actions again", "seed()")
        spoilt = _play(venv, seed, steps, actions, spoil=True)
        trap = "step() must return arrays and dicts that the env never reads again, for SB3 writes into them"
        _check_same(game, spoilt, "writing into what reset() and step() returned", trap)
        _check_seed_waits(venv, game, seed)
        if make_single is not None:
            below = [venv, *(layer.venv for layer in _normalisers(venv))][-1]
            raw = game if below is venv else _play(below, seed, steps, actions)
            for i in range(venv.num_envs):
                _check_member(raw, i, make_single(i), seed + i)
        venv.reset()


@dataclass
class _Game:
    """What a game returned, by name: of the reset first, then of each step; and copies made at once."""

    actions: list[np.ndarray] = field(default_factory=list)
    returned: list[dict[str, Any]] = field(default_factory=list)
    copies: list[dict[str, Any]] = field(default_factory=list)

    def keep(self, **returned: Any) -> None:
        self.returned.append(returned)
        self.copies.append(deepcopy(returned))


def _play(
    venv: VecEnv, seed: int, steps: int, actions: list | None = None, spoil: bool = False, midway: int | None = None
) -> _Game:
    """Play from a seeded reset, checking each step; `spoil` overwrites what is returned, `midway` is a new seed."""
    game, space = _Game(), deepcopy(venv.action_space)
    space.seed(seed)
    observation = _start(venv, seed)
    game.keep(observations=observation)
    if spoil:
        _overwrite(observations=observation)
    for t in range(steps):
        if midway is not None and t == steps // 2:
            venv.seed(midway)
        chosen = _draw_actions(venv, space) if actions is None else actions[t].copy()
        game.actions.append(chosen.copy())
        _mark(venv.unwrapped.reset_infos)
        observation, rewards, dones, infos = venv.step(chosen)
        assert np.array_equal(chosen, game.actions[-1]), "step() wrote into the caller's actions"
        _check_step(venv, observation, rewards, dones, infos)
        _check_autoreset(venv, observation, dones, infos)
        last = {_terminal(i): infos[i]["terminal_observation"] for i in np.flatnonzero(dones).tolist()}
        game.keep(observations=observation, rewards=rewards, dones=dones, **last)
        if spoil:
            _overwrite(observations=observation, rewards=rewards, dones=dones)
            for info in infos:
                info.clear()
                info[_MARK] = True
            infos.clear()
    if not spoil:
        for returned, copies in zip(game.returned, game.copies, strict=True):
            for what, value in returned.items():
                trap = "return fresh arrays, not an internal buffer"
                assert _equal(value, copies[what]), f"{what} returned by one step changed in a later one: {trap}"
    return game


def _start(venv: VecEnv, seed: int) -> Any:
    seeds = venv.seed(seed)
    expected = [seed + i for i in range(venv.num_envs)]
    assert list(seeds) == expected, f"seed({seed}) returned {seeds}; env i of n must get the seed s + i"
    _mark(venv.unwrapped.reset_infos)
    observation = venv.reset()
    is_pair = isinstance(observation, tuple) and not isinstance(venv.observation_space, spaces.Tuple)
    assert not is_pair, "reset() returned a tuple; a VecEnv returns observations and keeps the infos in reset_infos"
    _check_observation(venv, observation)
    _check_reset_infos(venv, range(venv.num_envs), "reset()")
    consumed = all(s is None for s in venv.unwrapped._seeds)
    assert consumed, "reset() did not consume the seeds: call _reset_seeds(), or every reset replays the same episode"
    assert not any(venv.unwrapped._options), "reset() did not consume the options: call _reset_options()"
    return observation


def _draw_actions(venv: VecEnv, space: spaces.Space) -> np.ndarray:
    """Random actions, one per env, masked ones left out where the space is discrete."""
    if isinstance(space, spaces.Discrete) and venv.has_attr("action_masks"):
        masks = venv.env_method("action_masks")
        return np.array([space.sample(mask=np.asarray(mask, dtype=np.int8)) for mask in masks])
    return np.array([space.sample() for _ in range(venv.num_envs)])


def _overwrite(**returned: Any) -> None:
    for what, value in returned.items():
        for array in _leaves(value).values():
            assert array.flags.writeable, f"{what} are read-only; SB3 and its wrappers may write into them"
            array[...] = ~array if array.dtype == np.bool_ else array + 77


def _check_observation(venv: VecEnv, observation: Any) -> None:
    """`observation` has a row per env, of the shapes and dtypes of the space, and each row lies inside it."""
    parts, leaves = _leaves(venv.observation_space), _leaves(observation)
    assert set(leaves) == set(parts), f"observations have the parts {sorted(leaves)}; expected {sorted(parts)}"
    for name, space in parts.items():
        array, what = leaves[name], f"observation{' ' + repr(name) if name else ''}"
        assert isinstance(array, np.ndarray), f"the {what} is a {type(array).__name__}; expected a NumPy array"
        shape = (venv.num_envs, *(space.shape or ()))
        assert array.shape == shape, f"the {what} has shape {array.shape}; expected {shape}"
        if _normalisers(venv):
            continue
        assert array.dtype == space.dtype, f"the {what} has dtype {array.dtype}; expected the space's, {space.dtype}"
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
    assert len(set(map(id, infos))) == n, "envs share an info dict; each needs its own, for wrappers write into it"
    assert not any(_MARK in info for info in infos), "an info dict of an earlier step was returned again"


def _check_autoreset(venv: VecEnv, observation: Any, dones: np.ndarray, infos: list[dict]) -> None:
    """Where an episode ended the info has the last observation; the row is the next episode's first."""
    parts = _leaves(venv.observation_space)
    for i, (done, info) in enumerate(zip(dones, infos, strict=True)):
        if not done:
            assert "terminal_observation" not in info, f"env {i} is not done but has a terminal_observation"
            continue
        lacks = f"env {i} is done and its info lacks"
        assert "terminal_observation" in info, f"{lacks} terminal_observation, which SB3 bootstraps from"
        is_told = isinstance(info.get("TimeLimit.truncated"), (bool, np.bool_))
        assert is_told, f"{lacks} a bool TimeLimit.truncated, by which SB3 tells ends apart"
        last, what = _leaves(info["terminal_observation"]), _terminal(i)
        assert set(last) == set(parts), f"{what} has the parts {sorted(last)}"
        for name, space in parts.items():
            is_view = np.shares_memory(last[name], _leaves(observation)[name])
            assert not is_view, f"{what} is a view of the returned rows; copy it before the reset"
            shape = np.shape(last[name])
            assert shape == (space.shape or ()), f"{what} has shape {shape}"
            inside = _normalisers(venv) or space.contains(_element(space, last[name]))
            assert inside, f"{what} lies outside the observation space"
    _check_reset_infos(venv, np.flatnonzero(dones).tolist(), "an autoreset")


def _check_reset_infos(venv: VecEnv, which: Iterable[int], when: str) -> None:
    infos = venv.unwrapped.reset_infos
    are_dicts = len(infos) == venv.num_envs and all(isinstance(info, dict) for info in infos)
    assert are_dicts, f"reset_infos are not {venv.num_envs} dicts after {when}"
    stale = [i for i in which if _MARK in infos[i]]
    assert not stale, f"{when} left reset_infos of env {stale[:1]} as they were; fill them with the new episode's info"


def _check_terminals(game: _Game) -> None:
    """Some episode ended, and terminal observations are not the first ones of the episodes after them."""
    ends = [(step, i) for step in game.copies[1:] for i in np.flatnonzero(step["dones"]).tolist()]
    assert ends, f"no episode ended in {len(game.actions)} steps, so autoreset is unproven; give more steps="
    late = all(_equal(step[_terminal(i)], _row(step["observations"], i)) for step, i in ends)
    moving = any(not _equal(before["observations"], after["observations"]) for before, after in pairwise(game.copies))
    trap = "take it before the reset"
    assert not (late and moving), f"every terminal_observation equals the next episode's first observation: {trap}"


def _check_seed_waits(venv: VecEnv, game: _Game, seed: int) -> None:
    """A seed given in mid-game changes nothing until the next reset, and then it does."""
    other = seed + 1_000
    disturbed = _play(venv, seed, len(game.actions), game.actions, midway=other)
    trap = "seed() must wait for the next reset() and leave autoresets alone"
    _check_same(game, disturbed, "a seed given in mid-game", trap)
    waited = deepcopy(venv.reset())
    venv.seed(other)
    assert _equal(waited, venv.reset()), "a seed given in mid-game was lost before the next reset()"


def _check_same(first: _Game, second: _Game, doing: str, trap: str) -> None:
    for t, (a, b) in enumerate(zip(first.copies, second.copies, strict=True)):
        for what, value in a.items():
            assert what in b and _equal(value, b[what]), f"{doing} changed the {what} after {t} steps: {trap}"


def _check_member(game: _Game, i: int, env: gym.Env, seed: int) -> None:
    """Env i's rows equal the lone `env` seeded `seed`, bit for bit, across episode borders."""
    trap = f"env {i} differs from a lone env seeded {seed}"
    first, _ = env.reset(seed=seed)
    assert _equal(_row(game.copies[0]["observations"], i), first), f"{trap} in the observation of the first reset"
    for t, (actions, step) in enumerate(zip(game.actions, game.copies[1:], strict=True)):
        last, reward, terminated, truncated, _ = env.step(actions[i])
        expected, found = np.float32(reward), step["rewards"][i]
        assert expected == found, f"{trap} in the reward of step {t}: {found!r}, not {expected!r}"
        done = bool(terminated or truncated)
        assert done == bool(step["dones"][i]), f"{trap} in whether step {t} ends the episode"
        if done:
            assert _equal(step[_terminal(i)], last), f"{trap} in the terminal_observation of step {t}"
            last, _ = env.reset()
        after = f"after step {t}{', an autoreset' if done else ''}"
        assert _equal(_row(step["observations"], i), last), f"{trap} in the observation {after}"
    env.close()


def _check_access(venv: VecEnv) -> None:
    """get_attr, has_attr, set_attr, env_method and env_is_wrapped, for all envs, for one, and for a list."""
    for indices, count in _some_members(venv):
        attributes, wrapped = venv.get_attr("render_mode", indices), venv.env_is_wrapped(gym.Wrapper, indices)
        calls = {"get_attr": attributes, "env_method": venv.env_method("__str__", indices=indices)}
        for name, values in {**calls, "env_is_wrapped": wrapped}.items():
            assert len(values) == count, f"{name} with indices={indices} returned {len(values)} values, not {count}"
        assert all(isinstance(is_one, (bool, np.bool_)) for is_one in wrapped), "env_is_wrapped must return bools"
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
            kind = type(error).__name__
            raise AssertionError(f"{name} of an unknown name raised {kind}; SB3 expects AttributeError") from error
        raise AssertionError(f"{name} of an unknown name must raise AttributeError, or has_attr cannot work")


def _check_masks(venv: VecEnv) -> None:
    """Where there are action masks, `env_method` gives a bool row per env, one entry per action."""
    if not venv.has_attr("action_masks"):
        return
    space = venv.action_space
    is_discrete = isinstance(space, (spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary))
    assert is_discrete, f"there are action_masks but the action space is {space}; masks need a discrete one"
    length = spaces.flatdim(space) * (2 if isinstance(space, spaces.MultiBinary) else 1)
    venv.reset()
    for indices, count in _some_members(venv):
        masks = venv.env_method("action_masks", indices=indices)
        assert len(masks) == count, f"action_masks gave {len(masks)} rows with indices={indices}; expected {count}"
        for i, mask in enumerate(masks):
            row = np.asarray(mask)
            assert row.shape == (length,), f"the action mask of env {i} has shape {row.shape}; expected ({length},)"
            assert row.dtype == np.bool_, f"the action mask of env {i} has dtype {row.dtype}; expected bool"
            assert row.any(), f"the action mask of env {i} allows nothing; MaskablePPO then divides by zero"


def _some_members(venv: VecEnv) -> list[tuple[Any, int]]:
    """Indices of all members, of one, and of a list; and how many that are."""
    return [(None, venv.num_envs), (0, 1), ([0, venv.num_envs - 1], 2)]


def _normalisers(venv: VecEnv) -> list[VecNormalize]:
    """Layers of VecNormalize, outermost first."""
    found = []
    while isinstance(venv, VecEnvWrapper):
        if isinstance(venv, VecNormalize):
            found.append(venv)
        venv = venv.venv
    return found


@contextmanager
def _frozen_statistics(venv: VecEnv) -> Iterator[None]:
    """VecNormalize with its running statistics held still, so that a game can be played again."""
    training = [(layer, layer.training) for layer in _normalisers(venv)]
    for layer, _ in training:
        layer.training = False
    try:
        yield
    finally:
        for layer, was in training:
            layer.training = was


def _mark(infos: list[dict]) -> None:
    for info in infos:
        info[_MARK] = True


def _terminal(i: int) -> str:
    return f"terminal_observation of env {i}"


def _leaves(value: Any) -> dict[str, Any]:
    """The parts of an observation, or of its space, by name; "" where it is one array."""
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, (tuple, spaces.Tuple)):
        return {str(i): part for i, part in enumerate(value)}
    return {"": value}


def _row(observation: Any, i: int) -> dict[str, np.ndarray]:
    return {name: array[i] for name, array in _leaves(observation).items()}


def _element(space: spaces.Space, row: Any) -> Any:
    """A row as `space.contains` wants it: NumPy scalars for Discrete."""
    return np.asarray(row)[()] if isinstance(space, spaces.Discrete) else np.asarray(row)


def _equal(a: Any, b: Any) -> bool:
    """Same parts, shapes and values, NaNs alike."""
    parts, others = _leaves(a), _leaves(b)
    return parts.keys() == others.keys() and all(np.array_equal(parts[k], others[k], equal_nan=True) for k in parts)
