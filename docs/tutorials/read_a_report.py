# %% [markdown]
# # Read a report
#
# A comparison ends in `results.json`, `report.html` and `report.md`. Here is a small one, and what each part says.
# On the command line: `sor-sb3 compare --market us_equity --algos ppo --seeds 1 --timesteps 100000`.

# %%
import json
import tempfile
from pathlib import Path

from IPython.display import Markdown

import sor_sb3
from sor_sb3.experiments.comparison import compare
from sor_sb3.experiments.config import compare_config

market = sor_sb3.load_market("us_equity")
config = compare_config(market, "OrderSplit-v1", ["ppo"], 1, timesteps=100_000, scenarios=200)
folder = Path(tempfile.mkdtemp()) / "us_equity"
results = compare(config, folder, workers=1)
sorted(path.name for path in folder.iterdir())

# %% [markdown]
# ## The headline, and what there is to win
#
# The best rule is named on validation scenarios, not on those that are shown. "What could be won" is the best rule's
# cost less the oracle's; a difference within the margin, 1 % of that, does not matter.

# %%
print(results["headline"])
print(f"margin {results['margin']:.3f} {results['cost_unit']}, could be won {results['could_be_won']:.3f}")

# %% [markdown]
# ## Every policy on the same scenarios
#
# `sd` and `cvar95` are of the cost of a parent order: a policy that waits is cheaper on average and
# sometimes much dearer.

# %%
for policy in results["policies"]:
    low, high = policy["cost_ci95"]
    spread = f"sd {policy['sd']:.2f}  CVaR {policy['cvar95']:.1f}"
    print(f"{policy['name']:18s} {policy['cost']:6.3f} [{low:6.3f}, {high:6.3f}]  {spread}")

# %% [markdown]
# Those intervals overlap, and that means nothing: the market's moves are the same for everybody. What counts is the
# *paired* difference, whose interval is many times narrower.

# %%
for comparison in results["comparisons"][:4]:
    print(comparison["sentence"])

# %% [markdown]
# ## Where the difference comes from
#
# Hybrids of policy and rule play the same scenarios; the parts add up. With 100,000 steps there is little to see; with
# the default budget most comes from routing and from dark pools.

# %%
for name, of in results["gains"].items():
    parts = ", ".join(f"{part} {entry['difference']:+.3f}" for part, entry in of["parts"].items())
    print(f"{name} {of['difference']:+.3f}: {parts}")

# %% [markdown]
# ## The report itself
#
# `report.html` has the same and figures, in one file that needs no network. The beginning of `report.md`:

# %%
Markdown("\n".join((folder / "report.md").read_text().splitlines()[:14]).replace("# ", "### "))

# %%
print(sorted(json.loads((folder / "results.json").read_text())))
