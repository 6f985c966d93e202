"""Action masks: they hide what is halted, never everything, and MaskablePPO keeps to them."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

import sor_sb3
from sor_sb3.envs.observation import MARKET_FEATURES, VENUE_FEATURES
from sor_sb3.envs.sb3_vec_env import RoutingVecEnv
from sor_sb3.market.loading import load_market
from sor_sb3.market.spec import MarketSpec

torch.set_num_threads(1)
OPEN = slice(len(MARKET_FEATURES) + VENUE_FEATURES.index("open"), None, len(VENUE_FEATURES))


def halting(per_hour: float, duration_s: float) -> MarketSpec:
    market = load_market("us_equity")
    halts = {"halts_per_hour": per_hour, "halt_duration_s": duration_s}
    return market.model_copy(update={"venues": tuple(v.model_copy(update=halts) for v in market.venues)})


def test_masks_hide_halted_venues_as_heard():
    venv = RoutingVecEnv("VenueSelect-v1", halting(600, 30), n_envs=64, seed=0)
    rows: Any = venv.reset()
    hidden = 0
    for _ in range(20):
        masks = np.stack(venv.env_method("action_masks"))
        heard = rows[:, OPEN] > 0.5
        some = heard.any(axis=1)
        assert masks.dtype == bool and np.array_equal(masks[some], heard[some])
        hidden += (~masks).sum()
        rows, _, _, _ = venv.step(np.zeros(64, dtype=int))
    assert hidden > 100


def test_where_all_are_halted_the_step_is_a_forced_wait():
    venv = RoutingVecEnv("VenueSelect-v1", halting(1e9, 1e9), n_envs=4, seed=0)
    rows: Any = venv.reset()
    assert not rows[:, OPEN].any(), "some venue is open"
    total = np.zeros(4)
    for step in range(20 * venv.core.market.order.waves):
        assert np.stack(venv.env_method("action_masks")).all()
        rows, rewards, dones, infos = venv.step(np.full(4, step % 8))
        assert np.isfinite(rows).all()
        total += rewards
    assert dones.all()
    for info, earned in zip(infos, total, strict=True):
        assert info["completion"] == 0.0 and info["fill_rate"] == 0.0 and np.isnan(info["slippage_bps"])
        cost = info["episode_cost"]
        assert cost["spread"] == cost["fee"] == cost["impact"] == 0.0
        assert cost["cleanup"] > 2.0 and cost["cleanup"] + cost["timing"] == pytest.approx(-earned, abs=1e-4)


def test_masks_of_the_three_ways_to_ask_agree():
    venv = RoutingVecEnv("VenueSelect-v1", halting(600, 30), n_envs=8, seed=3)
    venv.reset()
    rows = venv.env_method("action_masks")
    assert venv.has_attr("action_masks")
    for i in range(8):
        env = gym.make("sor_sb3:VenueSelect-v1", market=halting(600, 30))
        env.reset(seed=3 + i)
        assert np.array_equal(env.get_wrapper_attr("action_masks")(), rows[i])
        assert np.array_equal(venv.env_method("action_masks", indices=i)[0], rows[i])
        assert np.array_equal(venv.get_attr("action_masks", i)[0](), rows[i])
    assert [m.tolist() for m in venv.env_method("action_masks", indices=[5, 1])] == [
        rows[5].tolist(),
        rows[1].tolist(),
    ]


def test_a_mask_is_the_callers_own():
    venv = RoutingVecEnv("VenueSelect-v1", "us_equity", n_envs=2, seed=0)
    venv.reset()
    venv.env_method("action_masks")[0][:] = False
    assert venv.env_method("action_masks")[0].any()


def test_splits_have_no_masks():
    venv = RoutingVecEnv("OrderSplit-v1", "us_equity", n_envs=2)
    assert not venv.has_attr("action_masks")
    with pytest.raises(AttributeError):
        venv.env_method("action_masks")
    assert not hasattr(gym.make("sor_sb3:OrderSplit-v1").unwrapped, "action_masks")


def test_maskable_ppo_trains_and_never_takes_a_masked_venue():
    from sb3_contrib import MaskablePPO

    class Watched(RoutingVecEnv):
        taken = 0

        def step_async(self, actions):
            masks = self.core.action_masks()
            assert masks[np.arange(self.num_envs), actions].all(), "a masked venue was taken"
            Watched.taken += (~masks).sum()
            super().step_async(actions)

    venv = Watched("VenueSelect-v1", halting(600, 30), n_envs=16, seed=0)
    MaskablePPO("MlpPolicy", venv, n_steps=32, batch_size=256, n_epochs=2, seed=0).learn(2048)
    assert Watched.taken > 500, "nothing was ever masked"


def test_plain_algorithms_train_through_the_public_name():
    from stable_baselines3 import A2C

    venv = sor_sb3.make_vec_env("OrderSplit-v1", market="us_equity", n_envs=8, seed=0)
    A2C("MlpPolicy", venv, n_steps=20, seed=0).learn(640)
