# %% [markdown]
# # Export and use a policy
#
# A trained policy becomes one ONNX file, which every production language reads; nothing of torch or SB3 is needed to
# use it. (`pip install 'sor-sb3[onnx]'`; on the command line `sor-sb3 export RUN_FOLDER --out policy.onnx`.)

# %%
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from stable_baselines3 import PPO

import sor_sb3
from sor_sb3.algorithms.policies import SplitPolicy

torch.set_num_threads(1)
venv = sor_sb3.make_vec_env("OrderSplit-v1", market="us_equity", n_envs=64, seed=0, variance_reduction=True)
model = PPO(SplitPolicy, venv, n_steps=40, batch_size=640, gamma=1.0, policy_kwargs={"hidden": 16}, seed=0)
model.learn(10_000)
file = Path(tempfile.mkdtemp()) / "policy.onnx"
sor_sb3.export_onnx(model, file)
print(f"{file.stat().st_size / 1024:.0f} kB")

# %% [markdown]
# ## The same answers, without torch

# %%
policy = sor_sb3.OnnxPolicy.load(file)
observations = venv.reset()
ours, theirs = policy.predict(observations)[0], model.predict(observations, deterministic=True)[0]
print(f"largest difference of {ours.size} weights: {np.abs(ours - theirs).max():.1e}")

# %% [markdown]
# ## How long a decision takes

# %%
for name, answer in (("ONNX Runtime", policy.predict), ("SB3", model.predict)):
    times = []
    for _ in range(300):
        start = time.perf_counter()
        answer(observations[0], deterministic=True)
        times.append(time.perf_counter() - start)
    print(f"{name:13s} median {1e6 * np.median(times):.0f} µs")

# %% [markdown]
# ## It plays like any other policy

# %%
result = sor_sb3.evaluate(
    {"exported": policy, "model": model, "pro_rata": "pro_rata"}, env="OrderSplit-v1", market="us_equity", scenarios=200
)
for name in result.names():
    print(f"{name:10s} {result.cost(name).mean:.3f} bps")
