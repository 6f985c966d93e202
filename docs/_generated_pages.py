"""Pages that `make docs` makes from the package itself: a page a market, a router and a learner, and the reference."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path

import mkdocs_gen_files
from rich.console import Console

import sor_sb3
from sor_sb3.algorithms.registry import find_algorithm
from sor_sb3.market.loading import load_market, preset_names
from sor_sb3.policies.registry import ROUTER_NAMES, find_rule
from sor_sb3.reports.markets import sample_path_figure, venues_table

PACKAGE = Path(sor_sb3.__file__).parent
REFERENCE = {
    "Envs": ("sor_sb3.envs.sb3_vec_env", "sor_sb3.envs.gym_env", "sor_sb3.envs.gym_vector_env", "sor_sb3.envs.observation"),
    "Markets": ("sor_sb3.market.loading", "sor_sb3.market.spec", "sor_sb3.market.family"),
    "Routers": ("sor_sb3.routers", "sor_sb3.policies.protocol"),
    "Algorithms": ("sor_sb3.algorithms.reinforce.reinforce", "sor_sb3.algorithms.policies", "sor_sb3.callbacks.paired_critic"),
    "Evaluation": ("sor_sb3.evaluation.evaluator", "sor_sb3.evaluation.statistics", "sor_sb3.evaluation.tca"),
}


def write(path: str, text: str) -> None:
    """A page of the site."""
    with mkdocs_gen_files.open(path, "w") as file:
        file.write(text)


def page_name(name: str) -> str:
    """Of a market's page: a preset in a folder has a page of its own, beside the others."""
    return name.replace("/", "_")


def market_pages() -> None:
    """Each preset: what it is, its venues, a sample path, its file with the source of each number."""
    lines = ["# Markets\n", "| preset | what it is |", "|---|---|"]
    for name in preset_names():
        market, page = load_market(name), page_name(name)
        text = io.StringIO()
        Console(file=text, width=200, no_color=True).print(venues_table(market))
        with tempfile.TemporaryDirectory() as folder:
            figure = Path(folder) / "path.png"
            sample_path_figure(market, figure, 0)
            with mkdocs_gen_files.open(f"markets/{page}.png", "wb") as file:
                file.write(figure.read_bytes())
        source = (PACKAGE / "market" / "presets" / f"{name}.yaml").read_text(encoding="utf-8")
        write(
            f"markets/{page}.md",
            f"# {name}\n\n{market.description}\n\nIts equations are those of [the market model](../market.md); what is real "
            f"beside it stands in [realism](../realism.md), what there is to learn in [learnability](../learnability.md).\n\n"
            f"```console\n$ sor-sb3 markets check {name}\n$ sor-sb3 compare --market {name}\n```\n\n"
            f"![A sample scenario of {name}: quotes of its venues over time]({page}.png)\n\n"
            f"```text\n{text.getvalue()}```\n\n## The file, with the source of each number\n\n```yaml\n{source}```\n",
        )
        lines.append(f"| [{name}]({page}.md) | {market.description} |")
    write("markets/index.md", "\n".join(lines) + "\n")


def router_pages() -> None:
    """Each rule: its docstring, with formula and source, and its code."""
    lines = ["# Routers\n", "| router | rule |", "|---|---|"]
    for name in ROUTER_NAMES:
        rule = find_rule(name)
        assert rule is not None
        first = (rule.__doc__ or "").strip().splitlines()[0]
        write(
            f"routers/{name}.md",
            f"# {name}\n\n`sor_sb3.routers.make(\"{name}\", market=\"us_equity\")`\n\n"
            f"::: {rule.__module__}.{rule.__qualname__}\n    options: {{show_source: true}}\n",
        )
        lines.append(f"| [{name}]({name}.md) | {first} |")
    write("routers/index.md", "\n".join(lines) + "\n")


def learner_pages() -> None:
    """Each algorithm: its command, and the settings that it ships with."""
    lines = ["# Learners\n", "| algorithm | class |", "|---|---|"]
    for file in sorted((PACKAGE / "algorithms" / "hyperparams").glob("*.yml")):
        if file.stem == "others":  # what an algorithm without a file starts from
            continue
        settings = file.read_text(encoding="utf-8")
        found = find_algorithm(file.stem).load()
        about = f"::: {found.__module__}.{found.__qualname__}\n\n" if found.__module__.startswith("sor_sb3") else ""
        write(
            f"learners/{file.stem}.md",
            f"# {file.stem}\n\n`{found.__module__}.{found.__qualname__}`\n\n```console\n$ sor-sb3 train --algo {file.stem}\n```\n\n"
            f"{about}## Settings that it ships with\n\n```yaml\n{settings}```\n",
        )
        lines.append(f"| [{file.stem}]({file.stem}.md) | `{found.__module__}.{found.__qualname__}` |")
    write("learners/index.md", "\n".join(lines) + "\n")


def reference_pages() -> None:
    """The public names, from their docstrings."""
    own = "\n\n".join(f"::: sor_sb3.{name}" for name in sor_sb3.__all__ if name != "routers")
    write("reference/index.md", f"# Reference\n\nThe public names of `sor_sb3`.\n\n{own}\n")
    for title, modules in REFERENCE.items():
        body = "\n\n".join(f"::: {module}" for module in modules)
        write(f"reference/{title.lower()}.md", f"# {title}\n\n{body}\n")


market_pages()
router_pages()
learner_pages()
reference_pages()
