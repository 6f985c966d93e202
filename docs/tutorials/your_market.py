# %% [markdown]
# # Your market
#
# A market is a YAML file: venues, what they quote, and an order. A misspelt field is an error, never a silent default.

# %%
import tempfile
from pathlib import Path

import matplotlib.image
import matplotlib.pyplot as plt

import sor_sb3
from sor_sb3.evaluation.realism import panel_of
from sor_sb3.reports.markets import sample_path_figure
from sor_sb3.reports.realism import realism_table
from sor_sb3.reports.tables import wide_console

text = """
name: two_venues
description: A deep slow venue, a shallow fast one and a dark pool, with fees that each scenario draws.
order: {quantity_shares: 4000, horizon_steps: 20, step_s: 5}
venues:
  - {name: DEEP, take_fee_bps: 0.30, offset_bps: 0.3, size_shares: 600, latency_ms: 0.30}
  - {name: FAST, take_fee_bps: -0.02, offset_bps: 0.5, size_shares: 150, latency_ms: 0.04, quote_delay_s: 2,
     toxicity: 0.7}
  - {name: POOL, take_fee_bps: 0.10, latency_ms: 0.2,
     dark: {zero_probability: 0.8, power_exponent: 1.0, max_shares: 3000}}
quotes: {tick_bps: 1.0, round_lot_shares: 100}
informed: {news_per_s: 0.05, jump_bps: 2.0, removed_fraction: 0.8}
randomise: {"venues.*.take_fee_bps": [-0.1, 0.3]}
"""
folder = Path(tempfile.mkdtemp())
file = folder / "two_venues.yaml"
file.write_text(text)
market = sor_sb3.load_market(file)

# %% [markdown]
# ## A misspelt field

# %%
file.with_name("wrong.yaml").write_text(text.replace("latency_ms", "latncy_ms", 1))
try:
    sor_sb3.load_market(file.with_name("wrong.yaml"))
except sor_sb3.UserError as error:
    print(error)

# %% [markdown]
# ## How its quotes move

# %%
sample_path_figure(market, folder / "path.png")
figure, axes = plt.subplots(figsize=(9, 5))
axes.imshow(matplotlib.image.imread(folder / "path.png"))
axes.axis("off")
# alt: Quotes of two venues and the price of a dark pool over a sample scenario
plt.show()

# %% [markdown]
# ## Beside what is real
#
# `sor-sb3 markets check two_venues.yaml` prints this panel. A figure outside its range is a reason to look at the file
# again, or to know why.

# %%
wide_console(150).print(realism_table(panel_of(market, 300, None)))

# %% [markdown]
# ## What there is to learn in it

# %%
names = ("round_robin", "pro_rata", "net_price_sweep", "dark_then_sweep", "snapshot_oracle")
result = sor_sb3.evaluate({name: name for name in names}, env="OrderSplit-v1", market=market, scenarios=500)
for name in result.names():
    print(f"{name:16s} {result.cost(name).mean:.3f} bps")

# %% [markdown]
# From here: `sor-sb3 compare --market two_venues.yaml`.
