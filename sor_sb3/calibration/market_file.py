"""The calibrated market as YAML: every number with its interval, or marked as given or assumed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from sor_sb3.calibration.intervals import Estimate
from sor_sb3.calibration.observed import Observed
from sor_sb3.calibration.simulated import Data, with_value
from sor_sb3.market.spec import ReplayMarket

ASSUMED, GIVEN, MEASURED = "assumed", "given", "measured"
ASSUMED_OF_VENUES: dict[str, float] = {
    "hidden_fraction": 0.0,
    "mid_probability": 0.0,
    "halts_per_hour": 0.0,
    "outages_per_hour": 0.0,
}
FROM_REPLAY = (
    "take_fee_bps",
    "make_fee_bps",
    "latency_ms",
    "latency_sigma",
    "toxicity",
    "impact",
    "refill_half_life_s",
)
DRIFT_SHARE = 0.1  # where the search for the drift begins, in volatilities; its half-life is the default
SIDES = {"sides_correlation": 0.0, "join_probability": 0.15}  # assumed; and where the search begins
STRESS = {
    "entries_per_hour": 5.0,
    "duration_s": 240.0,
    "offset_factor": 1.5,
    "size_factor": 1.0,
    "volatility_factor": 1.5,
}


def rounded(value: float, digits: int = 4) -> float:
    """To so many significant digits."""
    return float(f"{value:.{digits}g}")


def drafted(name: str, replay: ReplayMarket, observed: Observed, estimates: Mapping[str, Estimate]) -> Data:
    """A synthetic market's plain data: closed forms, and what the replay takes for granted."""
    of_replay = {venue.name: venue for venue in replay.venues}
    order = replay.order.model_dump(exclude_defaults=True)
    venues: list[dict[str, Any]] = []
    for venue in observed.paths.venue_names:
        stated = {field: getattr(of_replay[venue], field) for field in FROM_REPLAY}
        venues.append({"name": venue, **stated, **ASSUMED_OF_VENUES})
    quotes: dict[str, Any] = {"tick_bps": observed.tick_bps}
    if observed.lot_shares > 0.0:
        quotes["round_lot_shares"] = observed.lot_shares
    response = replay.response.model_dump(include={"reaction_time_ms", "cancel_half_life_s", "cleanup_penalty_bps"})
    data: Data = {
        "name": name,
        "model": "synthetic",
        "description": f"calibrated on {replay.quotes_file.name}",
        "order": order,
        "order_protection": replay.order_protection,
        "path_dt_s": observed.paths.grid_s,
        "venues": venues,
        "quotes": quotes,
        "price": {},
        "response": response,
    }
    if observed.volume is not None:
        data["volume"] = {"day_s": observed.day_s}
    for path, estimate in estimates.items():
        with_value(data, path, max(estimate.value, 1e-9) if path.endswith("size_shares") else estimate.value)
    data["stress"] = dict(STRESS)
    data["quotes"] |= SIDES
    price = data["price"]
    price["drift_sd_bps_per_s"] = DRIFT_SHARE * price["volatility_bps_per_sqrt_s"]
    jump_variance = price["jumps_per_hour"] / 3600.0 * price["jump_sd_bps"] ** 2
    price["volatility_bps_per_sqrt_s"] = max(price["volatility_bps_per_sqrt_s"] ** 2 - jump_variance, 1e-8) ** 0.5
    return data


def settled(data: Data, replay: ReplayMarket) -> Data:
    """The data as they are written: numbers rounded, and an order that the market's clock can keep."""
    out: Data = _rounded(data)
    out["order"]["step_s"] = max(round(replay.order.step_s / data["path_dt_s"]), 1) * data["path_dt_s"]
    return out


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(x) for key, x in value.items()}
    if isinstance(value, list):
        return [_rounded(x) for x in value]
    return rounded(value) if isinstance(value, float) else value


def notes_of(
    data: Data, estimates: Mapping[str, Estimate], given: Mapping[str, Any], measured: set[str]
) -> dict[str, str]:
    """What stands behind each number of the file: its interval, or that it is measured, given or assumed."""
    out = {}
    for path in _leaves(data):
        of_all = path if not path.startswith("venues.") else f"venues.*.{path.rpartition('.')[2]}"
        if path in given or of_all in given:
            out[path] = GIVEN
        elif path in estimates:
            found = estimates[path]
            out[path] = f"{found.low:.3g} to {found.high:.3g}; {found.how}"
        elif path in measured:
            out[path] = MEASURED
        elif not path.startswith("order.") and path not in ("name", "model", "description"):
            out[path] = ASSUMED
    return out


def _leaves(data: Data, before: str = "") -> list[str]:
    found = []
    for key, value in data.items():
        if isinstance(value, dict):
            found += _leaves(value, f"{before}{key}.")
        elif isinstance(value, list):
            for item in value:
                rest = {field: x for field, x in item.items() if field != "name"}
                found += _leaves(rest, f"{before}{key}.{item['name']}.")
        else:
            found.append(f"{before}{key}")
    return found


def market_text(data: Data, notes: Mapping[str, str], head: list[str]) -> str:
    """The YAML file."""
    word = lambda value: json.dumps(value) if isinstance(value, str) else _number(value)  # noqa: E731
    lines = [f"# {line}" for line in head]

    def line(indent: str, key: str, value: Any, path: str) -> str:
        text = f"{indent}{key}: {word(value)}"
        return f"{text:<43} # {notes[path]}" if path in notes else text

    for key, value in data.items():
        if isinstance(value, dict):
            lines.append(f"{key}:")
            lines += [line("  ", field, x, f"{key}.{field}") for field, x in value.items()]
        elif isinstance(value, list):
            lines.append(f"{key}:")
            for item in value:
                lines.append(f"  - name: {word(item['name'])}")
                of = f"{key}.{item['name']}"
                lines += [line("    ", field, x, f"{of}.{field}") for field, x in item.items() if field != "name"]
        else:
            lines.append(line("", key, value, key))
    return "\n".join(lines) + "\n"


def _number(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return repr(int(value)) if value == int(value) and abs(value) < 1e15 else repr(value)
    return str(value)
