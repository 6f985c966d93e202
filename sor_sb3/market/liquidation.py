"""Closed-form markets: positions to be sold whose best policy is a formula. Data, as :mod:`sor_sb3.market.spec`.

Beside the notebook, they are what a learner is held against. Each is small and has an env and actions of its own.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from sor_sb3.errors import UserError, did_you_mean
from sor_sb3.market.settings import named, with_fields
from sor_sb3.market.spec import PositiveWeight, Seconds, Weight, _Spec
from sor_sb3.market.validation import validate
from sor_sb3.safe_yaml import parse_yaml, read_text


class _LiquidationMarket(_Spec):
    name: Annotated[str, Field(min_length=1, max_length=200)] = "unnamed"
    description: str = ""
    sources: dict[str, str] = Field(default_factory=dict)
    horizon_steps: Annotated[int, Field(ge=1, le=10_000)]
    horizon_s: Seconds  # of any unit of time, as all rates here

    @property
    def step_s(self) -> float:
        """The time from decision to decision."""
        return self.horizon_s / self.horizon_steps


class DarkPoolLiquidation(_LiquidationMarket):
    """Kratz and Schoeneborn, "Portfolio liquidation in dark pools in continuous time", arXiv:1201.6130.

    A position x is sold at the rate xi on a primary venue, and lies in a dark pool, which fills the whole order there
    at a random time. The cost is the integral of ``impact xi^2 + risk x^2``.
    """

    model: Literal["dark_pool_liquidation"]
    impact: PositiveWeight  # Lambda, of a squared rate, a unit of time
    risk: Weight  # a, of a squared position, a unit of time
    dark_fills_per_s: Weight  # theta: how often the pool fills what lies there
    fastest: PositiveWeight  # rate up to which actions go, in even paces: what is left over the time that is left


class LimitOrderLiquidation(_LiquidationMarket):
    """Liquidation by resting orders alone.

    The model is in Cartea, Jaimungal, Penalva 2015, "Algorithmic and High-Frequency Trading", section 8.2. One lot at a
    time is offered `delta` above the mid. Buyers come at `arrivals_per_s`, and one of them reaches the offer with the
    chance ``exp(-depth_decay delta)``. A fill earns delta; q lots left at the end cost ``terminal_penalty q^2``.
    """

    model: Literal["limit_order_liquidation"]
    quantity_lots: Annotated[int, Field(ge=1, le=1000)]
    arrivals_per_s: PositiveWeight  # lambda
    depth_decay: PositiveWeight  # k, 1 over the unit of prices
    terminal_penalty: Weight  # alpha, in the unit of prices
    deepest: PositiveWeight  # depth up to which actions go, in the unit of prices


LiquidationMarket = DarkPoolLiquidation | LimitOrderLiquidation
_KINDS: dict[str, Any] = {
    "dark_pool_liquidation": DarkPoolLiquidation,
    "limit_order_liquidation": LimitOrderLiquidation,
}


def load_liquidation(
    market: str | Path | LiquidationMarket, model: str, settings: dict[str, Any] | None = None
) -> LiquidationMarket:
    """Read a closed-form market of a `model`: a preset by name, a YAML file, or a specification.

    Raises:
        UserError: there is no such market, it is of another model, or a field of it is wrong.
    """
    if isinstance(market, DarkPoolLiquidation | LimitOrderLiquidation):
        data, where = market.model_dump(), f"market {market.name}"
    elif str(market).lower().endswith((".yaml", ".yml")):
        data, where = parse_yaml(read_text(Path(market)), str(market)), str(market)
    elif str(market) in _KINDS:
        file = resources.files("sor_sb3.market") / "presets" / "liquidation" / f"{market}.yaml"
        data, where = parse_yaml(file.read_text(encoding="utf-8"), f"preset {market}"), f"preset {market}"
    else:
        name = market if isinstance(market, str | Path) else getattr(market, "name", market)
        hint = did_you_mean(str(name), list(_KINDS))
        raise UserError(f"market '{name}' is no closed-form market{hint}; expected '{model}', or a .yaml of that model")
    given = data.get("model") if isinstance(data, dict) else None
    if given != model:
        raise UserError(f"{where}: field 'model' is {given!r}; expected '{model}', the market of this env")
    kind, settings = _KINDS[model], settings or {}
    found: LiquidationMarket = validate(kind, with_fields(kind, data, settings, where), named(where, settings))
    return found
