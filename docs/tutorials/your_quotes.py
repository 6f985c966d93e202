# %% [markdown]
# # Your quotes
#
# Recorded quotes of several venues replay through the same execution code. Here two hours of two venues are made up;
# `sor-sb3 data convert` turns a vendor's file into the same columns.

# %%
import tempfile
from pathlib import Path

import numpy as np
import polars as pl

import sor_sb3
from sor_sb3.market.recordings import recording_lines

rng = np.random.default_rng(0)
start, seconds = np.datetime64("2025-03-03T14:30:00", "ns"), 7200
mid = 100.0 + np.cumsum(rng.normal(0.0, 0.003, seconds))
rows = []
for venue, delay, half in (("ARCA", 0, 0.01), ("EDGX", 2, 0.015)):
    seen = np.concatenate([mid[:1].repeat(delay), mid[: seconds - delay]])
    bid, ask = np.floor((seen - half) * 100) / 100, np.ceil((seen + half) * 100) / 100
    size = 100.0 * rng.integers(1, 12, (2, seconds))
    times = start + (np.arange(seconds) * 1_000_000_000 + rng.integers(0, 900_000_000, seconds)).astype(
        "timedelta64[ns]"
    )
    columns = {"ts": times, "venue": venue, "bid_px": bid, "bid_sz": size[0], "ask_px": ask, "ask_sz": size[1]}
    rows.append(pl.DataFrame(columns))
quotes = pl.concat(rows).sort("ts").with_columns(pl.col("ts").dt.replace_time_zone("UTC"))  # times need a zone
file = Path(tempfile.mkdtemp()) / "quotes.parquet"
quotes.write_parquet(file)
quotes.head()

# %% [markdown]
# ## Read, and what was dropped
#
# `sor-sb3 markets check quotes.parquet` prints the same, and the recording's figures beside real ranges.

# %%
market = sor_sb3.load_market(file, {"order.horizon_steps": 10})
print("\n".join(recording_lines(market)))

# %% [markdown]
# ## Rules on the recorded windows
#
# Training, validation and test windows are disjoint in time; test windows that overlap are resampled in blocks.

# %%
names = ("best_price", "net_price_sweep", "pro_rata", "round_robin")
result = sor_sb3.evaluate({name: name for name in names}, env="OrderSplit-v1", market=market, scenarios=100)
for name in result.names():
    print(f"{name:16s} {result.cost(name).mean:.3f} bps")
difference = result.difference("round_robin", "best_price")
print(f"round_robin less best_price {difference.mean:+.3f} bps, 95 % interval {np.round(difference.ci95, 3)}")

# %% [markdown]
# From here: `sor-sb3 compare --market quotes.parquet`.
