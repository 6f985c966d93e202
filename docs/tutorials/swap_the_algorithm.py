# %% [markdown]
# # Swap the algorithm or the policy
#
# On the command line it is a flag: `sor-sb3 train --algo trpo`, `--algo sac`, `--algo package.module:Class`,
# `--set policy=MlpPolicy`. In Python an env of this package is an SB3 `VecEnv`, so that every algorithm takes it.

# %%
import torch
from sb3_contrib import TRPO, MaskablePPO
from stable_baselines3 import A2C, PPO

import sor_sb3
from sor_sb3.algorithms.policies import MaskableVenuePolicy, SplitPolicy, VenuePolicy
from sor_sb3.callbacks.paired_critic import PairedCriticCallback

torch.set_num_threads(1)
STEPS = 20_000  # a look, not a training: the defaults have a million


def env(name="OrderSplit-v1", per_scenario=8):
    return sor_sb3.make_vec_env(
        name, market="us_equity", n_envs=64, seed=0, variance_reduction=True, envs_per_scenario=per_scenario
    )


# %% [markdown]
# ## Three on-policy algorithms, one callback
#
# `PairedCriticCallback` fits the critic of PPO, A2C and TRPO to what envs of one scenario differ by.

# %%
shared = {"n_steps": 40, "gamma": 1.0, "gae_lambda": 0.9, "seed": 0, "policy_kwargs": {"hidden": 16}}
models = {
    "ppo": PPO(SplitPolicy, env(), batch_size=640, n_epochs=4, vf_coef=0.0, learning_rate=1e-2, **shared),
    "a2c": A2C(SplitPolicy, env(), vf_coef=0.0, use_rms_prop=False, learning_rate=1e-2, **shared),
    "trpo": TRPO(SplitPolicy, env(), batch_size=640, **shared),
}
for model in models.values():
    model.learn(STEPS, callback=PairedCriticCallback(envs_per_scenario=8))
models["reinforce"] = sor_sb3.REINFORCE(
    SplitPolicy, env(), n_steps=40, baseline="scenario", rollout_buffer_kwargs={"envs_per_scenario": 8},
    learning_rate=1e-2, use_rms_prop=False, policy_kwargs={"hidden": 16}, seed=0,
).learn(STEPS)  # fmt: skip

# %% [markdown]
# ## Another policy: SB3's own MLP, and a Gaussian over a shared network

# %%
models["ppo, MlpPolicy"] = PPO("MlpPolicy", env(per_scenario=1), n_steps=40, batch_size=640, gamma=1.0, seed=0).learn(
    STEPS
)
models["ppo, VenuePolicy"] = PPO(VenuePolicy, env(per_scenario=1), n_steps=40, batch_size=640, gamma=1.0, seed=0).learn(
    STEPS
)
rules = {name: name for name in ("net_price_sweep", "pro_rata", "random")}
result = sor_sb3.evaluate({**models, **rules}, env="OrderSplit-v1", market="us_equity", scenarios=300)
for name in result.names():
    print(f"{name:18s} {result.cost(name).mean:.3f} bps")

# %% [markdown]
# ## Masks: one venue a step, and announced halts hidden

# %%
masked = MaskablePPO(MaskableVenuePolicy, env("VenueSelect-v1"), n_steps=40, batch_size=640, gamma=1.0, seed=0)
masked.learn(20_000)
result = sor_sb3.evaluate(
    {"maskableppo": masked, "all_in": "all_in"}, env="VenueSelect-v1", market="us_equity", scenarios=200
)
for name in result.names():
    print(f"{name:12s} {result.cost(name).mean:.3f} bps")
