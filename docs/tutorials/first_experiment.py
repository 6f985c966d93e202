# %% [markdown]
# # The first experiment
#
# Which venue should take an order? A hand-written REINFORCE learns it in forty lines of PyTorch; then
# `sor_sb3.REINFORCE` and SB3's PPO do the same in three. The market is `notebook`: five venues with a price, a fee, a
# size and a latency each, drawn anew every episode, and one decision at a time. Its optimum is known: 1.7013 by
# quadrature.
#
# `sor-sb3 compare --market notebook --env VenueSelect-v1` is this page as one command, with five seeds and intervals.

# %%
import matplotlib.pyplot as plt
import numpy as np
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback

import sor_sb3
from sor_sb3.algorithms.policies import VenuePolicy
from sor_sb3.callbacks.paired_critic import PairedCriticCallback

torch.set_num_threads(1)
MARKET, ENV = "notebook", "VenueSelect-v1"
HORIZON = sor_sb3.load_market(MARKET).order.horizon_steps  # choices in an order

# %% [markdown]
# ## Rules first
#
# A learner is worth something only beside rules, on the same scenarios. An oracle, which sees what no router can,
# says what there is to win.

# %%
RULES = ("random", "best_price", "all_in_sized", "snapshot_oracle")
rules = sor_sb3.evaluate({name: name for name in RULES}, env=ENV, market=MARKET, scenarios=1000)
for name in RULES:
    print(f"{name:16s} {rules.cost(name).mean:.4f}")

# %% [markdown]
# ## REINFORCE by hand
#
# The gradient of the expected return is the mean of `grad log pi(a | s)` times the return. A venue's score comes from
# one small network that all venues share. Sixty-four episodes run side by side, and the baseline is the batch's mean.

# %%
torch.manual_seed(0)
venv = sor_sb3.make_vec_env(ENV, market=MARKET, n_envs=64, seed=0)
n_inputs, n_venues = venv.observation_space.shape[0], venv.action_space.n
network = torch.nn.Sequential(torch.nn.Linear(n_inputs, 32), torch.nn.Tanh(), torch.nn.Linear(32, n_venues))
optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
observations, by_hand = venv.reset(), []
running, totals = np.zeros(64), []
for _ in range(1500):
    policy = torch.distributions.Categorical(logits=network(torch.as_tensor(observations)))
    actions = policy.sample()
    observations, rewards, dones, infos = venv.step(actions.numpy())
    returns = torch.as_tensor(rewards)  # a choice costs its own step alone here: the return is the reward
    advantages = (returns - returns.mean()) / (returns.std() + 1e-8)
    loss = -(policy.log_prob(actions) * advantages).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    running += rewards
    totals += [-running[i] for i in np.flatnonzero(dones)]
    running[dones] = 0.0
    by_hand.append(np.mean(totals[-200:]) if totals else np.nan)
print(f"by hand: {by_hand[0 if totals else -1]:.3f} at first, {by_hand[-1]:.3f} at the end")

# %% [markdown]
# It comes close to the best rule, which buys at the lowest price after fees, and goes no further: latency costs, too,
# and to see that takes quieter gradients.
#
# ## `sor_sb3.REINFORCE` and PPO, with the settings that ship


# %%
class Curve(BaseCallback):
    """Mean cost of the episodes that ended of late, by timestep."""

    def __init__(self):
        super().__init__()
        self.steps, self.costs = [], []

    def _on_step(self):
        return True

    def _on_rollout_end(self):
        if self.model.ep_info_buffer:
            self.steps.append(self.num_timesteps)
            self.costs.append(-np.mean([episode["r"] for episode in self.model.ep_info_buffer]))


# Eight envs play each scenario, each in its own way: what they differ by is due to their choices alone.
def shared_scenarios(n_envs):
    return sor_sb3.make_vec_env(ENV, market=MARKET, n_envs=n_envs, seed=1, envs_per_scenario=8)


curves = {"reinforce": Curve(), "ppo": Curve()}
settings = {"policy_kwargs": {"hidden": 16, "activation_fn": torch.nn.Tanh, "prior": False}, "seed": 0, "gamma": 1.0}
reinforce = sor_sb3.REINFORCE(
    VenuePolicy,
    shared_scenarios(32),
    n_steps=HORIZON,
    baseline="scenario",
    rollout_buffer_kwargs={"envs_per_scenario": 8},
    learning_rate=lambda left: 1e-2 * left,
    use_rms_prop=False,
    ent_coef=0.01,
    **settings,
)
reinforce.learn(600_000, callback=curves["reinforce"])
ppo = PPO(
    VenuePolicy,
    shared_scenarios(128),
    n_steps=HORIZON,
    batch_size=1280,
    n_epochs=4,
    gae_lambda=0.9,
    vf_coef=0.0,  # the callback fits the critic
    learning_rate=lambda left: 1e-2 * left,
    **settings,
)
ppo.learn(200_000, callback=[PairedCriticCallback(envs_per_scenario=8), curves["ppo"]])
models = {"reinforce": reinforce, "ppo": ppo}

# %% [markdown]
# Same scenarios for everybody, none of which was trained on:

# %%
result = sor_sb3.evaluate({**models, **{name: name for name in RULES}}, env=ENV, market=MARKET, scenarios=1000)
for name in result.names():
    print(f"{name:16s} {result.cost(name).mean:.4f}")
for name in models:
    difference = result.difference(name, "all_in_sized")
    print(f"{name} minus all_in_sized: {difference.mean:+.4f}, 95 % interval {np.round(difference.ci95, 4)}")

# %%
figure, axes = plt.subplots(figsize=(7, 4))
axes.plot(64 * np.arange(1, 1 + len(by_hand)), by_hand, label="REINFORCE by hand")
for name, curve in curves.items():
    axes.plot(curve.steps, curve.costs, label=name)
for name in ("random", "all_in_sized"):
    axes.axhline(rules.cost(name).mean, linestyle=":", color="grey")
    axes.annotate(name, (0, rules.cost(name).mean), va="bottom")
axes.set(xlabel="decisions", ylabel="cost of an order, units")
axes.legend()
# alt: Cost of an order by decisions, of REINFORCE by hand, reinforce and ppo, beside random and the best rule
plt.show()

# %% [markdown]
# Next: [read a report](read_a_report.py), or [swap the algorithm](swap_the_algorithm.py).
