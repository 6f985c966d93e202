"""REINFORCE: returns, episodes across rollouts, the gradient, and what SB3 promises of an algorithm."""

from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3.common.buffers import DictRolloutBuffer, RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.envs import (
    FakeImageEnv,
    IdentityEnv,
    IdentityEnvBox,
    IdentityEnvMultiBinary,
    IdentityEnvMultiDiscrete,
    SimpleMultiObsEnv,
)
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.logger import configure
from stable_baselines3.common.save_util import load_from_zip_file
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecNormalize

from sor_sb3.algorithms.reinforce import REINFORCE, DictEpisodicRolloutBuffer, EpisodicRolloutBuffer
from sor_sb3.algorithms.reinforce.buffers import leave_one_out_mean, reward_to_go

th.set_num_threads(1)


class ScriptedEnv(gym.Env):
    """Episodes of the given lengths, in turn; the reward and the observation are a running step number.

    Step numbers tell an environment's steps apart over its whole life, so that a test can follow each.
    """

    def __init__(self, lengths: list[int], first: int = 0, truncate: bool = False, dict_obs: bool = False):
        box = spaces.Box(-np.inf, np.inf, (1,), np.float32)
        self.observation_space = spaces.Dict({"n": box, "m": box}) if dict_obs else box
        self.action_space = spaces.Discrete(2)
        self.lengths, self.truncate, self.dict_obs = lengths, truncate, dict_obs
        self.number, self.episode, self.t = first, -1, 0

    def _obs(self) -> Any:
        obs = np.array([self.number], np.float32)
        return {"n": obs, "m": -obs} if self.dict_obs else obs

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[Any, dict]:
        super().reset(seed=seed)
        self.episode, self.t = self.episode + 1, 0
        return self._obs(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict]:
        reward = float(self.number)
        self.number, self.t = self.number + 1, self.t + 1
        over = self.t == self.lengths[self.episode % len(self.lengths)]
        return self._obs(), reward, over and not self.truncate, over and self.truncate, {}


class Updates(REINFORCE):
    """Records what each update is given."""

    def train(self) -> None:
        if not hasattr(self, "seen"):
            self.seen: list[dict[str, Any]] = []
        buffer = self.rollout_buffer
        obs = buffer.observations
        self.seen.append(
            {
                "obs": (obs["n"] if isinstance(obs, dict) else obs).ravel().copy(),
                "rewards": buffer.rewards.copy(),
                "returns": buffer.returns.copy(),
                "advantages": buffer.advantages.copy(),
                "n_episodes": buffer.n_episodes,
                "carried": buffer.carried_fraction,
            }
        )
        if isinstance(obs, dict):
            np.testing.assert_array_equal(obs["n"], -obs["m"])
        super().train()


def scripted(lengths: list[list[int]], **kwargs: Any) -> DummyVecEnv:
    """One ScriptedEnv per list of lengths; environment i numbers its steps from 1000 i."""
    return DummyVecEnv([partial(ScriptedEnv, ls, 1000 * i, **kwargs) for i, ls in enumerate(lengths)])


def policy_for(env: Any) -> str:
    return "MultiInputPolicy" if isinstance(env.observation_space, spaces.Dict) else "MlpPolicy"


def updates(env: DummyVecEnv, n_steps: int, n_rollouts: int, **kwargs: Any) -> Updates:
    model = Updates(policy_for(env), env, n_steps=n_steps, device="cpu", seed=0, **kwargs)
    return model.learn(n_rollouts * n_steps * env.num_envs)


# --- returns


@pytest.mark.parametrize(
    ("gamma", "expected"),
    [(1.0, [6.0, 5.0, 3.0, 15.0, 11.0, 6.0, 7.0]), (0.9, [5.23, 4.7, 3.0, 13.36, 10.4, 6.0, 7.0])],
)
def test_reward_to_go_by_hand(gamma: float, expected: list[float]) -> None:
    # 1 + .9 * (2 + .9 * 3) = 5.23 and 4 + .9 * (5 + .9 * 6) = 13.36
    rewards = np.array([1, 2, 3, 4, 5, 6, 7], np.float32)
    np.testing.assert_allclose(reward_to_go(rewards, np.array([3, 3, 1]), gamma), expected, rtol=1e-12)


def test_reward_to_go_of_nothing() -> None:
    assert reward_to_go(np.zeros(0, np.float32), np.zeros(0, np.int64), 1.0).shape == (0,)


@pytest.mark.parametrize("gamma", [1.0, 0.97])
def test_reward_to_go_equals_the_recursion(gamma: float) -> None:
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 40, 50)
    rewards = rng.normal(size=lengths.sum())
    expected, end = np.zeros_like(rewards), 0
    for length in lengths:
        end, tail = end + length, 0.0
        for t in reversed(range(end - length, end)):
            expected[t] = tail = rewards[t] + gamma * tail
    np.testing.assert_allclose(reward_to_go(rewards, lengths, gamma), expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("gamma", "expected"), [(1.0, [3.0, 3.0, 2.0, 12.0, 9.0, 5.0]), (0.9, [2.52, 2.8, 2.0, 10.65, 8.5, 5.0])]
)
@pytest.mark.parametrize("truncate", [False, True])
def test_truncation_is_not_bootstrapped(gamma: float, expected: list[float], truncate: bool) -> None:
    model = updates(scripted([[3]], truncate=truncate), n_steps=6, n_rollouts=1, gamma=gamma)
    np.testing.assert_allclose(model.seen[0]["returns"], expected, rtol=1e-6)  # rewards 0 1 2, 3 4 5
    np.testing.assert_array_equal(model.seen[0]["rewards"], np.arange(6))


def test_truncation_is_not_bootstrapped_under_subproc_vec_env() -> None:
    env = SubprocVecEnv([lambda: gym.wrappers.TimeLimit(ScriptedEnv([99]), 3)] * 2, start_method="fork")
    model = updates(env, n_steps=3, n_rollouts=1)
    env.close()
    np.testing.assert_array_equal(model.seen[0]["returns"], [3, 3, 2] * 2)


def test_rollout_cut_is_not_bootstrapped() -> None:
    model = updates(scripted([[4]]), n_steps=6, n_rollouts=1)
    np.testing.assert_array_equal(model.seen[0]["returns"], [6, 6, 5, 3])


def test_callbacks_see_truncations_as_they_are() -> None:
    class Spy(BaseCallback):
        def __init__(self) -> None:
            super().__init__()
            self.kept: list[dict[str, Any]] = []
            self.live: list[bool] = []
            self.at_end: list[bool] = []

        def _on_step(self) -> bool:
            (info,) = self.locals["infos"]
            self.kept.append(info)
            self.live.append(info["TimeLimit.truncated"])
            return True

        def _on_rollout_end(self) -> None:
            self.at_end = [info["TimeLimit.truncated"] for info in self.kept]

    spy = Spy()
    REINFORCE("MlpPolicy", scripted([[3]], truncate=True), n_steps=6, device="cpu").learn(6, spy)
    assert spy.live == spy.at_end == [False, False, True] * 2


# --- episodes across rollouts


@pytest.mark.parametrize("dict_obs", [False, True])
@pytest.mark.parametrize("n_steps", [1, 4, 7, 30])
def test_every_step_of_a_finished_episode_is_used_exactly_once(n_steps: int, dict_obs: bool) -> None:
    lengths = [[3, 5, 1, 2], [23, 1], [4], [1, 1, 17], [2, 9]]
    env = scripted(lengths, dict_obs=dict_obs)
    model = updates(env, n_steps, n_rollouts=-(-60 // n_steps))
    used = np.concatenate([update["obs"] for update in model.seen])
    assert len(used) == len(np.unique(used))

    steps_taken = model.num_timesteps // env.num_envs
    for i, cycle in enumerate(lengths):
        ends = np.cumsum(np.tile(cycle, 60))
        n_finished = ends[ends <= steps_taken].max(initial=0)
        of_env = used[used // 1000 == i]
        np.testing.assert_array_equal(of_env, 1000 * i + np.arange(n_finished))

    for update in model.seen:  # the pairs belong together, and the return is that of the step's own episode
        np.testing.assert_array_equal(update["obs"], update["rewards"])
        for obs, g in zip(update["obs"].astype(int), update["returns"], strict=True):
            i, n = divmod(obs, 1000)
            ends = np.cumsum(np.tile(lengths[i], 60))
            assert g == 1000 * i * (ends[ends > n].min() - n) + sum(range(n, ends[ends > n].min()))


def test_carried_fraction_and_skipped_updates(tmp_path: Any) -> None:
    env = scripted([[10]])
    model = Updates("MlpPolicy", env, n_steps=4, device="cpu", seed=0)
    model.set_logger(configure(str(tmp_path), []))
    weights = [p.detach().clone() for p in model.policy.parameters()]
    model.learn(8)
    assert [u["n_episodes"] for u in model.seen] == [0, 0]
    assert model._n_updates == 0
    assert model.logger.name_to_value["train/n_episodes"] == 0
    assert all(th.equal(a, b) for a, b in zip(weights, model.policy.parameters(), strict=True))

    model.learn(12, reset_num_timesteps=False)
    assert [u["n_episodes"] for u in model.seen] == [0, 0, 1, 0, 1]
    assert [u["carried"] for u in model.seen] == [0, 0, 0.8, 0, 0.6]
    assert model._n_updates == 2
    assert model.logger.name_to_value["train/carried_fraction"] == 0.6


def test_fixed_horizons_carry_nothing() -> None:
    model = updates(scripted([[5], [5]]), n_steps=10, n_rollouts=3)
    assert [(u["n_episodes"], u["carried"]) for u in model.seen] == [(4, 0)] * 3


def test_episodes_abandoned_by_a_reset_are_dropped() -> None:
    model = updates(scripted([[10], [3]]), n_steps=4, n_rollouts=1)
    model.learn(3 * 4 * 2)  # resets the environments
    used = np.concatenate([u["obs"] for u in model.seen])
    # Environment 0 gave up steps 0-3. Environment 1 gave up step 1003.
    np.testing.assert_array_equal(np.sort(used), [*range(4, 14), 1000, 1001, 1002, *range(1004, 1016)])


def test_episodes_cut_by_a_callback_are_not_glued_together() -> None:
    model = updates(scripted([[6]]), n_steps=4, n_rollouts=1)
    assert len(model.rollout_buffer._carried_env) == 4
    model.learn(8, callback=lambda local, _: False, reset_num_timesteps=False)
    model.learn(8, reset_num_timesteps=False)
    # Step 4 was taken but SB3 does not store the step at which a callback stops.
    assert [list(u["rewards"]) for u in model.seen] == [[], [5], [6, 7, 8, 9, 10, 11]]


# --- baselines


def test_leave_one_out_mean_by_hand() -> None:
    returns, step = np.array([6.0, 5.0, 2.0, 1.0, 4.0]), np.array([0, 1, 0, 1, 0])
    np.testing.assert_array_equal(leave_one_out_mean(returns, step), [3, 1, 5, 5, 4])
    np.testing.assert_array_equal(leave_one_out_mean(np.array([7.0, 3.0]), np.array([0, 1])), [0, 0])


def test_baselines() -> None:
    lengths = [[2], [2], [4]]
    none = updates(scripted(lengths), 4, 1, baseline="none").seen[0]
    np.testing.assert_array_equal(none["advantages"], none["returns"])

    mean = updates(scripted(lengths), 4, 1, baseline="mean").seen[0]
    first = mean["returns"][[0, 2, 4, 6, 8]]  # the returns at step 0 of the five episodes
    np.testing.assert_allclose(mean["advantages"][[0, 2, 4, 6, 8]], first - (first.sum() - first) / 4)
    np.testing.assert_array_equal(mean["advantages"][-2:], mean["returns"][-2:])  # nobody else has a step 2, 3

    value = Updates("MlpPolicy", scripted(lengths), n_steps=4, baseline="value", device="cpu", seed=0)
    critic = value.policy.predict_values
    with th.no_grad():
        v = critic(th.tensor([[1000.0 * i + n] for i in range(3) for n in range(4)])).numpy().ravel()
    value.learn(12)
    np.testing.assert_allclose(value.seen[0]["advantages"], value.seen[0]["returns"] - v, rtol=1e-5)


@pytest.mark.parametrize("baseline", ["none", "mean", "value"])
def test_only_the_value_baseline_trains_the_critic(baseline: Any) -> None:
    model = Updates("MlpPolicy", scripted([[3], [3]]), n_steps=6, baseline=baseline, device="cpu", seed=0)
    before = model.policy.value_net.weight.detach().clone()
    model.learn(12)
    assert th.equal(before, model.policy.value_net.weight) == (baseline != "value")


def test_leave_one_out_mean_is_unbiased_and_reduces_variance() -> None:
    """The gradient of a two-armed bandit, one parameter: d/dtheta of E[r] at theta = 0 is (r1 - r0) / 4."""
    rng = np.random.default_rng(1)
    actions = rng.integers(0, 2, (40_000, 4))
    returns = np.array([3.0, 5.0])[actions] + rng.normal(size=actions.shape)
    scores = actions - 0.5
    baselines = np.stack([leave_one_out_mean(g, np.zeros(4, int)) for g in returns])
    plain, reduced = (scores * returns).mean(1), (scores * (returns - baselines)).mean(1)
    assert abs(reduced.mean() - 0.5) < 4 * reduced.std() / np.sqrt(len(reduced))
    assert reduced.var() < 0.25 * plain.var()


# --- the gradient


@pytest.mark.parametrize("gamma", [1.0, 0.9])
def test_policy_gradient_by_hand(gamma: float) -> None:
    """A linear softmax policy: grad log pi(a|s) with respect to the logits' bias is onehot(a) - pi."""
    model = REINFORCE(
        "MlpPolicy",
        scripted([[3], [2, 1]]),
        learning_rate=0.5,
        n_steps=3,
        gamma=gamma,
        baseline="none",
        max_grad_norm=1e9,
        normalize_advantage=False,
        policy_kwargs=dict(net_arch=[], optimizer_class=th.optim.SGD),
        device="cpu",
        seed=3,
    )
    with th.no_grad():  # the observation plays no part: pi is the same everywhere
        model.policy.action_net.weight.zero_()
        model.policy.action_net.bias.copy_(th.tensor([0.3, -0.2]))
    p1 = 1 / (1 + np.exp(0.5))
    model.learn(6)

    actions = model.rollout_buffer.actions.ravel()
    if gamma == 1.0:  # rewards 0 1 2, 1000 1001, 1002
        returns = np.array([3, 3, 2, 2001, 1001, 1002])
    else:
        returns = np.array([0 + 0.9 * 2.8, 1 + 0.9 * 2, 2, 1000 + 0.9 * 1001, 1001, 1002])
    gradient = np.mean(((actions == 1) - p1) * returns)
    bias = model.policy.action_net.bias.detach().numpy()
    np.testing.assert_allclose(bias, [0.3 - 0.5 * gradient, -0.2 + 0.5 * gradient], rtol=1e-4)


def test_entropy_and_normalization_enter_the_loss() -> None:
    kwargs: dict[str, Any] = dict(baseline="none", policy_kwargs=dict(net_arch=[], optimizer_class=th.optim.SGD))
    kwargs["normalize_advantage"] = False
    plain = updates(scripted([[3]]), 6, 1, **kwargs).get_parameters()["policy"]["action_net.weight"]
    for extra in ({"ent_coef": 10.0}, {"normalize_advantage": True}, {"max_grad_norm": 1e-9}):
        other = updates(scripted([[3]]), 6, 1, **{**kwargs, **extra})
        assert not th.equal(plain, other.get_parameters()["policy"]["action_net.weight"]), extra


def test_one_step_alone_is_not_normalized() -> None:
    model = updates(scripted([[1]]), 1, 2, normalize_advantage=True)
    assert all(th.isfinite(p).all() for p in model.policy.parameters())


# --- what SB3 promises

ENVS = {
    "discrete": lambda: IdentityEnv(3, ep_length=10),
    "box": lambda: IdentityEnvBox(ep_length=10),
    "multi_discrete": lambda: IdentityEnvMultiDiscrete(2, ep_length=10),
    "multi_binary": lambda: IdentityEnvMultiBinary(2, ep_length=10),
    "dict": lambda: SimpleMultiObsEnv(random_start=False),
    "dict_box_action": lambda: SimpleMultiObsEnv(random_start=False, discrete_actions=False),
}


@pytest.mark.parametrize("baseline", ["none", "mean", "value"])
@pytest.mark.parametrize("name", ENVS)
def test_spaces(name: str, baseline: Any) -> None:
    env = make_vec_env(ENVS[name], n_envs=3, vec_env_cls=DummyVecEnv)
    model = REINFORCE(policy_for(env), env, n_steps=20, baseline=baseline, device="cpu", seed=0)
    model.learn(180)
    action, _ = model.predict(env.reset(), deterministic=True)
    assert all(env.action_space.contains(a) for a in action)
    expected = DictEpisodicRolloutBuffer if name.startswith("dict") else EpisodicRolloutBuffer
    assert type(model.rollout_buffer) is expected


def test_images() -> None:
    env = FakeImageEnv(screen_height=36, screen_width=36, n_channels=1, discrete=True)
    model = REINFORCE("CnnPolicy", env, n_steps=30, device="cpu", seed=0)
    model.learn(60)
    assert env.action_space.contains(int(model.predict(env.reset()[0])[0]))


@pytest.mark.parametrize("policy_kwargs", [{}, {"squash_output": True}])
def test_sde(policy_kwargs: dict[str, Any]) -> None:
    env = IdentityEnvBox(ep_length=10)
    model = REINFORCE(
        "MlpPolicy",
        env,
        n_steps=25,
        use_sde=True,
        sde_sample_freq=4,
        ent_coef=0.01,
        policy_kwargs=policy_kwargs,
        device="cpu",
    )
    model.learn(50)
    assert model._n_updates == 2


@pytest.mark.parametrize("name", ["discrete", "dict"])
def test_save_and_load(tmp_path: Any, name: str) -> None:
    env = make_vec_env(ENVS[name], n_envs=2)
    model = REINFORCE(
        policy_for(env),
        env,
        learning_rate=lambda p: 1e-3 * p,
        n_steps=7,
        baseline="mean",
        seed=0,
        device="cpu",
    )
    model.learn(70)
    model.save(tmp_path / "model.zip")
    assert "rollout_buffer" not in model.__dict__.keys() - set(model._excluded_save_params())

    obs = env.reset()
    loaded = REINFORCE.load(tmp_path / "model.zip", env=env, device="cpu")
    np.testing.assert_array_equal(model.predict(obs, deterministic=True)[0], loaded.predict(obs, deterministic=True)[0])
    assert loaded.rollout_buffer.baseline == loaded.baseline == "mean"
    assert len(loaded.rollout_buffer._carried_env) == 0
    n_updates = loaded._n_updates
    loaded.learn(70, reset_num_timesteps=False)
    assert loaded._n_updates > n_updates

    other = REINFORCE(policy_for(env), env, n_steps=7, device="cpu")
    other.set_parameters(tmp_path / "model.zip", device="cpu")
    np.testing.assert_array_equal(model.predict(obs, deterministic=True)[0], other.predict(obs, deterministic=True)[0])


@pytest.mark.parametrize("use_rms_prop", [False, True])
def test_same_seed_same_weights(use_rms_prop: bool) -> None:
    def weights(seed: int) -> th.Tensor:
        env = make_vec_env("CartPole-v1", n_envs=3)
        model = REINFORCE("MlpPolicy", env, n_steps=50, seed=seed, use_rms_prop=use_rms_prop, device="cpu")
        return th.nn.utils.parameters_to_vector(model.learn(900).policy.parameters())

    assert th.equal(weights(1), weights(1))
    assert not th.equal(weights(1), weights(2))


def test_tensorboard_names(tmp_path: Any) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    env = IdentityEnvBox(ep_length=10)
    model = REINFORCE("MlpPolicy", env, n_steps=20, tensorboard_log=str(tmp_path), device="cpu")
    model.learn(60)
    events = EventAccumulator(str(tmp_path / "REINFORCE_1")).Reload()
    assert set(events.Tags()["scalars"]) == {
        "rollout/ep_len_mean",
        "rollout/ep_rew_mean",
        "time/fps",
        "train/carried_fraction",
        "train/entropy_loss",
        "train/explained_variance",
        "train/learning_rate",
        "train/n_episodes",
        "train/policy_loss",
        "train/std",
        "train/value_loss",
    }


def test_progress_bar_and_vec_normalize() -> None:
    env = VecNormalize(make_vec_env(lambda: IdentityEnvBox(ep_length=10), n_envs=2))
    REINFORCE("MlpPolicy", env, n_steps=15, device="cpu").learn(120, progress_bar=True)
    assert np.isfinite(env.ret_rms.var)


def test_rollout_buffer_arguments() -> None:
    class Mine(EpisodicRolloutBuffer):
        def __init__(self, *args: Any, tag: str = "", **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.tag = tag

    model = REINFORCE(
        "MlpPolicy",
        IdentityEnv(2, ep_length=10),
        n_steps=10,
        rollout_buffer_class=Mine,
        rollout_buffer_kwargs={"tag": "x"},
        device="cpu",
    ).learn(20)
    assert isinstance(model.rollout_buffer, Mine)
    assert model.rollout_buffer.tag == "x"

    class Bootstrapping(RolloutBuffer):
        pass

    with pytest.raises(TypeError, match="EpisodicRolloutBuffer"):
        REINFORCE("MlpPolicy", IdentityEnv(2), rollout_buffer_class=Bootstrapping)


def test_unknown_baseline() -> None:
    with pytest.raises(ValueError, match=r"'batch'.*'none', 'mean', 'value'"):
        REINFORCE("MlpPolicy", IdentityEnv(2), baseline="batch")


def test_batches_cover_the_finished_steps() -> None:
    model = updates(scripted([[3], [5]]), 15, 1)
    batches = [batch.returns for batch in model.rollout_buffer.get(batch_size=7)]
    assert [len(batch) for batch in batches] == [7, 7, 7, 7, 2]
    np.testing.assert_array_equal(np.sort(np.concatenate(batches)), np.sort(model.seen[0]["returns"]))


# --- it learns


@pytest.mark.parametrize("baseline", ["none", "mean", "value"])
def test_learns_identity(baseline: Any) -> None:
    env = make_vec_env(lambda: IdentityEnv(2, ep_length=20), n_envs=8)
    model = REINFORCE(
        "MlpPolicy", env, learning_rate=1e-2, n_steps=20, gamma=0.5, baseline=baseline, seed=0, device="cpu"
    )
    model.learn(160 * 50)
    assert evaluate_policy(model, env, n_eval_episodes=8)[0] > 18


def test_improves_on_cartpole() -> None:
    env = make_vec_env("CartPole-v1", n_envs=8, seed=0)
    model = REINFORCE("MlpPolicy", env, learning_rate=1e-2, n_steps=128, normalize_advantage=True, seed=0, device="cpu")
    before = evaluate_policy(model, env, n_eval_episodes=16, deterministic=False)[0]
    model.learn(40_000)
    after = evaluate_policy(model, env, n_eval_episodes=16, deterministic=False)[0]
    assert before < 60
    assert after > 130


# --- networks of many kinds


class Watchful(BaseFeaturesExtractor):
    """Dropout and batch normalisation, which act differently in training and in use."""

    def __init__(self, observation_space: spaces.Space) -> None:
        super().__init__(observation_space, 8)
        self.net = th.nn.Sequential(th.nn.Linear(4, 8), th.nn.BatchNorm1d(8), th.nn.Dropout(0.5), th.nn.ReLU())
        self.modes: list[bool] = []

    def forward(self, observations: th.Tensor) -> th.Tensor:
        self.modes.append(self.training)
        return self.net(observations)


def test_networks_train_in_training_mode_only() -> None:
    model = REINFORCE(
        "MlpPolicy",
        "CartPole-v1",
        n_steps=64,
        seed=0,
        device="cpu",
        policy_kwargs={"features_extractor_class": Watchful},
    )
    extractor = model.policy.features_extractor
    statistics = extractor.net[1].running_mean.clone()
    model.learn(192)
    assert not th.equal(statistics, extractor.net[1].running_mean)
    n_updates = model._n_updates
    assert n_updates > 0
    assert sum(extractor.modes) == n_updates  # one pass an update; all others, those of rollouts, were in use
    statistics, obs = extractor.net[1].running_mean.clone(), model.observation_space.sample()
    actions = {int(model.predict(obs, deterministic=True)[0]) for _ in range(20)}
    assert len(actions) == 1
    assert th.equal(statistics, extractor.net[1].running_mean)


def test_a_compiled_policy(tmp_path: Any) -> None:
    model = REINFORCE("MlpPolicy", "CartPole-v1", n_steps=32, seed=0, device="cpu")
    compiled: Any = th.compile(model.policy, backend="eager")
    model.policy = compiled
    model.learn(64)
    model.save(tmp_path / "compiled")
    loaded = REINFORCE.load(tmp_path / "compiled", device="cpu")
    obs = np.stack([model.observation_space.sample() for _ in range(8)])
    np.testing.assert_array_equal(loaded.predict(obs, deterministic=True)[0], model.predict(obs, deterministic=True)[0])
    loaded.set_env(model.get_env())
    loaded.learn(64)


def test_saving_more_and_less(tmp_path: Any) -> None:
    model = REINFORCE("MlpPolicy", "CartPole-v1", n_steps=32, device="cpu", gamma=0.9)
    model.save(tmp_path / "less", exclude=["gamma"])
    assert REINFORCE.load(tmp_path / "less", device="cpu").gamma == 1.0  # the constructor's
    model.save(tmp_path / "more", include=["rollout_buffer"])
    assert "rollout_buffer" in load_from_zip_file(tmp_path / "more")[0]


def test_set_parameters_refuses_what_does_not_fit() -> None:
    model = REINFORCE("MlpPolicy", "CartPole-v1", n_steps=32, device="cpu")
    parameters: dict[str, Any] = dict(model.get_parameters())
    model.set_parameters({"policy": parameters["policy"]}, exact_match=False)
    with pytest.raises(ValueError, match=r"policy\.optimizer"):
        model.set_parameters({"policy": parameters["policy"]})
    with pytest.raises(ValueError, match="invalid"):
        model.set_parameters(parameters | {"nothing_of_the_name": {}})
    lacking = dict(list(parameters["policy"].items())[1:])
    with pytest.raises(RuntimeError, match="Missing key"):
        model.set_parameters(parameters | {"policy": lacking})


def test_sb3s_buffer_classes_mean_their_episodic_kin() -> None:
    model = REINFORCE("MlpPolicy", "CartPole-v1", rollout_buffer_class=RolloutBuffer, device="cpu")
    assert type(model.rollout_buffer) is EpisodicRolloutBuffer
    with pytest.raises(AssertionError, match="DictRolloutBuffer must be used with Dict obs space only"):
        REINFORCE("MlpPolicy", "CartPole-v1", rollout_buffer_class=DictRolloutBuffer, device="cpu")
