# %% [markdown]
# # Reproduce a paper
#
# R. Cont and A. Kukanov (2017), *Optimal order placement in limit order markets*, Quantitative Finance 17, 21-39
# ([doi](https://doi.org/10.1080/14697688.2016.1190030)), split an order between a market order and limit orders: fees
# and spread against the risk of not being filled.
#
# The example: 1,000 shares to buy, 2,000 queued ahead, and a Poisson number of 2,200 shares leave the queue; half the
# spread costs .02, taking .003, a rebate pays .002, a missing share costs .026 and one too many .024.

# %%
import matplotlib.pyplot as plt
import numpy as np
from scipy.stats import poisson

import sor_sb3
from sor_sb3.policies.rules.cont_kukanov import PlacementCosts, allocate, allocate_to_one

HALF_SPREAD, FEE, REBATE, UNDERFILL, OVERFILL = 0.02, 0.003, 0.002, 0.026, 0.024
costs = PlacementCosts(HALF_SPREAD + FEE, HALF_SPREAD + np.array([REBATE]), UNDERFILL, OVERFILL, 0.0)

# %% [markdown]
# ## One venue: a closed form
#
# The shares that rest are a quantile of the outflow less the queue. Enumeration of all integer splits gives 728 to take
# and 272 to rest:

# %%
print(allocate_to_one(1000.0, 2000.0, costs, poisson(2200).ppf))

# %% [markdown]
# The cost of every split, from 40,000 draws of the outflow: a flat valley, which is why a few shares more or less do
# not matter.

# %%
outflow = np.random.default_rng(0).poisson(2200, 40_000)
taken = np.arange(0, 1001, 20)
filled = np.clip(outflow[None] - 2000, 0, (1000 - taken)[:, None])
missing = 1000 - taken[:, None] - filled
mean = taken * (HALF_SPREAD + FEE) - (HALF_SPREAD + REBATE) * filled.mean(1) + UNDERFILL * missing.mean(1)
figure, axes = plt.subplots(figsize=(7, 4))
axes.plot(taken, mean)
axes.axvline(728, linestyle=":", color="grey")
axes.set(xlabel="shares taken, of 1,000", ylabel="expected cost, dollars")
# alt: Expected cost by shares taken: a flat valley around 728
plt.show()
print(f"cheapest on the grid: take {taken[mean.argmin()]}, {mean.min():.3f} dollars")

# %% [markdown]
# ## Two venues: projected stochastic gradient
#
# The optimum takes 497 and costs 5.3966; resting 385 at each venue overbooks the order on purpose.

# %%
two = PlacementCosts(HALF_SPREAD + FEE, HALF_SPREAD + np.array([REBATE, REBATE]), UNDERFILL, OVERFILL, 0.0)
draws = np.random.default_rng(0).poisson([2200, 2200], (40_000, 2)).astype(float)
placement = allocate(1000.0, np.array([2000.0, 2000.0]), two, draws, iterations=600)
print(placement)

# %% [markdown]
# ## The rule in a market
#
# `cont_kukanov` computes this at every decision, with the outflows that it has seen, and is a policy like any other.

# %%
names = ("cont_kukanov", "post_and_sweep", "net_price_sweep")
result = sor_sb3.evaluate({name: name for name in names}, env="OrderPlace-v1", market="us_equity", scenarios=200)
for name in result.names():
    print(f"{name:16s} {result.cost(name).mean:.3f} bps")
