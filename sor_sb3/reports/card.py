"""The model card of a published run: YAML that the hub reads, and text for a person. No number is made here."""

import math
from typing import Any

import yaml

from sor_sb3.reports.page import templates

Card = dict[str, Any]


def _header(card: Card) -> dict[str, Any]:
    """The card's metadata; the hub's own words for a result of reinforcement learning."""
    config, results = card["config"], card["results"]
    entry = next((p for p in results["policies"] if p["name"] == config["algo"]), None)
    header: dict[str, Any] = {
        "library_name": "stable-baselines3",
        "tags": [config["env"], "reinforcement-learning", "stable-baselines3", "sor_sb3", "smart-order-routing"],
    }
    if entry is not None and entry["cost"] is not None and math.isfinite(entry["cost"]):
        metric = {"type": "mean_reward", "value": f"{-entry['cost']:.4f}", "name": "mean_reward", "verified": False}
        of = {
            "task": {"type": "reinforcement-learning", "name": "reinforcement-learning"},
            "dataset": {"name": f"{config['env']}, {card['market']}", "type": config["env"]},
            "metrics": [metric],
        }
        header["model-index"] = [{"name": config["algo"], "results": [of]}]
    return header


def render_card(card: Card) -> str:
    """The card as Markdown."""
    header = yaml.safe_dump(_header(card), sort_keys=False, width=110)
    results = card["results"]
    shown = {"c": card, "r": results, "header": header, "bps": results["cost_unit"] == "bps"}
    return templates().get_template("card.md.j2").render(**shown)
