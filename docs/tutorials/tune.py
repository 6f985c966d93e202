# %% [markdown]
# # Tune
#
# `sor-sb3 tune` searches settings with Optuna on validation scenarios, several training seeds a trial; bad trials
# are pruned. The study is a file: the same command goes on after a kill, and several commands share it.

# %%
import tempfile
from pathlib import Path

import sor_sb3
from sor_sb3.experiments.search_space import tune_config
from sor_sb3.experiments.tune import tune

market = sor_sb3.load_market("notebook")
config = tune_config(
    "ppo", "VenueSelect-v1", [market], 1, 10_000, {}, ["learning_rate=1e-4..1e-1:log", "ent_coef=0.0|0.01|0.1"], None
)
folder = Path(tempfile.mkdtemp()) / "study"
found = tune(config, folder, 4, None, 1)
print(found["about"])

# %% [markdown]
# The command line for the same: `sor-sb3 tune --algo ppo --market notebook --env VenueSelect-v1 --trials 4 --seeds 1
# --timesteps 10000 --space learning_rate=1e-4..1e-1:log --space 'ent_coef=0.0|0.01|0.1'`. It leaves zoo-style YAML:

# %%
print((folder / "best.yml").read_text())

# %% [markdown]
# ## Rules are tuned, too
#
# A learner that beats an untuned rule has beaten nobody. `sor-sb3 tune --algo dark_first --market us_equity` gives a
# rule's constants the same search; comparisons tune them by themselves, on validation scenarios.

# %%
rule = sor_sb3.routers.make("dark_first", market="us_equity")
print({name: getattr(rule, name) for name in type(rule).constants})
