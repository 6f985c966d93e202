"""Pages that `make docs` makes from the package itself: a page a market, a router and a learner, and the reference."""

from __future__ import annotations

import io
import re
import sys
import tempfile
from collections.abc import Iterable
from inspect import cleandoc
from pathlib import Path

import mkdocs_gen_files
from rich.console import Console
from rich.table import Table

import sor_sb3
from sor_sb3.algorithms.registry import find_algorithm
from sor_sb3.evaluation.realism import panel_of
from sor_sb3.market.family import FAMILIES, load_family
from sor_sb3.market.liquidation import load_liquidation
from sor_sb3.market.loading import HELDOUT, load_market, preset_names
from sor_sb3.market.spec import MarketSpec
from sor_sb3.policies.registry import GROUPS, ORACLE_NAMES, ROUTER_NAMES, find_rule, oracle_name, rule_names
from sor_sb3.reports.markets import sample_path_figure, venues_table
from sor_sb3.reports.realism import realism_table

PACKAGE = Path(sor_sb3.__file__).parent
sys.path.insert(0, str(PACKAGE.parent))  # for the numbers that tests check
from tests.policies.golden import GOLDEN  # noqa: E402

PRESETS = PACKAGE / "market" / "presets"
SCENARIOS = 300
LIQUIDATION = {"dark_pool_liquidation": "DarkPoolLiquidation-v1", "limit_order_liquidation": "LimitOrderLiquidation-v1"}
GUIDES = ("routers.md", "schedules.md")  # which have the papers of rules
GROUP_TITLES = {
    "standard": "What everybody is compared with: `sor_sb3.evaluate` and `compare` know them, constants are tuned.",
    "literature": "Rules of papers, compared where `--rules literature`, `--rules all` or a name asks for them.",
}
REFERENCE = {
    "Envs": "envs.sb3_vec_env envs.gym_env envs.gym_vector_env envs.observation envs.checks",
    "Markets": "market.loading market.spec market.family market.liquidation",
    "Vendors' formats": "market.formats.headers market.formats.base",
    "Calibration": "calibration.calibrate calibration.market_file calibration.comparison",
    "Routers": "routers policies.protocol policies.registry policies.online",
    "Algorithms": "algorithms.reinforce.reinforce algorithms.policies algorithms.registry algorithms.onnx_export "
    "algorithms.onnx_policy callbacks.paired_critic",
    "Evaluation": "evaluation.evaluator evaluation.results evaluation.statistics evaluation.tca",
    "Experiments": "experiments.comparison experiments.config experiments.tune experiments.plots",
    "Live": "live.builder live.events live.recorder",
}


def write(path: str, text: str) -> None:
    """A page of the site."""
    with mkdocs_gen_files.open(path, "w") as file:
        file.write(text)


def page_name(name: str) -> str:
    """Of a market's page: a preset in a folder has a page of its own, beside the others."""
    return name.replace("/", "_")


def as_text(table: Table) -> str:
    """A table of the command line as a block of text."""
    text = io.StringIO()
    Console(file=text, width=220, no_color=True).print(table)
    return "```text\n" + "\n".join(line.rstrip() for line in text.getvalue().splitlines()) + "\n```"


def shipped_file(name: str) -> str:
    """A preset's YAML."""
    source = (PRESETS / f"{name}.yaml").read_text(encoding="utf-8")
    return f"## The file, with the source of each number\n\n```yaml\n{source}```\n"


def listed(kind: str, rows: Iterable[tuple[str, str]]) -> str:
    """An index: a table of links to pages of this folder, and what each is."""
    return (
        "\n".join([f"| {kind} | what it is |", "|---|---|", *(f"| {link} | {about} |" for link, about in rows)]) + "\n"
    )


def what_to_learn(market: MarketSpec, env: str) -> str:
    """Rules and the oracle on the same scenarios: how much lies between them."""
    oracle = oracle_name(market, env)
    names = [*rule_names(market, env), oracle]
    result = sor_sb3.evaluate({name: name for name in names}, env=env, market=market, scenarios=SCENARIOS)
    lines = [f"| policy | cost, {market.cost_unit} | less {oracle}, 95 % interval |", "|---|---|---|"]
    for name in sorted(names, key=lambda name: result.cost(name).mean):
        cost, link = result.cost(name).mean, f"[{name}](../routers/{name}.md)" if name in ROUTER_NAMES else name
        difference = result.difference(name, oracle) if name != oracle else None
        low, high = difference.ci95 if difference else (0.0, 0.0)
        less = f"{difference.mean:.3f} [{low:.3f}, {high:.3f}]" if difference else ""
        lines.append(f"| {link} | {cost:.3f} | {less} |")
    made = f'`sor_sb3.evaluate({{...}}, env="{env}", market="{market.name}", scenarios={SCENARIOS})`'
    return (
        "## What there is to learn\n\nThe oracle sees what no router can; what the best rule costs more is what a "
        f"learner could win. Rules as they ship, untuned; made with this page by {made}.\n\n"
        + "\n".join(lines)
        + "\n\n"
    )


def market_page(name: str) -> None:
    """A preset: what it is, its venues, a sample path, its figures beside real ones, its rules, its file."""
    market, page = load_market(name), page_name(name)
    env = "VenueSelect-v1" if name.startswith("notebook") else "OrderSplit-v1"
    with tempfile.TemporaryDirectory() as folder:
        figure = Path(folder) / "path.png"
        sample_path_figure(market, figure, 0)
        with mkdocs_gen_files.open(f"markets/{page}.png", "wb") as file:
            file.write(figure.read_bytes())
    panel = panel_of(market, SCENARIOS)
    check = f"$ sor-sb3 markets check {name} --scenarios {SCENARIOS}\n"
    beside = f"## Beside what is real\n\n```console\n{check}```\n\n{as_text(realism_table(panel))}\n\n" if panel else ""
    write(
        f"markets/{page}.md",
        f"# {name}\n\n{market.description}\n\nIts equations are those of [the market model](../market.md).\n\n"
        f"```console\n$ sor-sb3 markets show {name}\n$ sor-sb3 compare --market {name} --env {env}\n```\n\n"
        f"![A sample scenario of {name}: quotes of its venues over time]({page}.png)\n\n"
        f"{as_text(venues_table(market))}\n\n{beside}{what_to_learn(market, env)}{shipped_file(name)}",
    )


def market_pages() -> None:
    """A page a market, and an index by kind."""
    for name in preset_names():
        market_page(name)
    held_out = [name for name in preset_names() if name.startswith(HELDOUT)]
    shipped = [name for name in preset_names() if name not in held_out]

    def rows(names: Iterable[str]) -> list[tuple[str, str]]:
        return [(f"[{name}]({page_name(name)}.md)", load_market(name).description) for name in names]

    closed, families = [], []
    for model, env in LIQUIDATION.items():
        about = load_liquidation(model, model).description
        closed.append((f"[{model}]({model}.md)", about))
        write(
            f"markets/{model}.md",
            f"# {model}\n\n{about}\n\nIts equations and its optimum: [closed-form markets](../closed_forms.md).\n\n"
            f"```console\n$ sor-sb3 train --env {env}\n```\n\n{shipped_file(f'liquidation/{model}')}",
        )
    for file in sorted((PRESETS / "families").glob("*.yaml")):
        name = f"{FAMILIES}{file.stem}"
        about = load_family(name).description
        families.append((f"[{name}]({page_name(name)}.md)", about))
        write(
            f"markets/{page_name(name)}.md",
            f"# {name}\n\n{about}\n\nHow one policy is trained for all of them: [One policy for many markets]"
            f"(../generalist.md).\n\n{shipped_file(name)}",
        )
    write(
        "markets/index.md",
        "# Markets\n\nA market of your own is a YAML file ([how](../your_market.md)), recorded quotes "
        "([how](../your_data.md)) or made from them ([how](../calibration.md)).\n\n## Presets\n\n"
        + listed("preset", rows(shipped))
        + "\n## Held out\n\nNo default and no constant was tuned on them.\n\n"
        + listed("preset", rows(held_out))
        + "\n## Families\n\n"
        + listed("family", families)
        + "\n## Closed forms\n\n"
        + listed("market", closed),
    )


def router_pages() -> None:
    """Each rule: its docstring, with formula and source, the number that its test checks, its code; and an index."""
    groups: dict[str, list[tuple[str, str]]] = {group: [] for group in GROUPS}
    for name in ROUTER_NAMES:
        rule = find_rule(name)
        assert rule is not None
        module = rule.__module__.replace(".", "/")
        option = f" --env {'OrderPlace-v1' if rule.rests else 'OrderExecute-v1'}" if rule.rests or rule.paces else ""
        env = f', env="{option.split()[-1]}"' if option else ""
        guide = next((g for g in GUIDES if f"`{name}`" in (PACKAGE.parent / "docs" / g).read_text("utf-8")), None)
        paper = f" Its paper, and what it sees: [guide](../{guide})." if guide and rule.group == "literature" else ""
        golden = f"\n{GOLDEN[name].markdown()}" if name in GOLDEN else ""
        asked = "" if rule.group == "standard" else f" --rules {name}"
        write(
            f"routers/{name}.md",
            f'# {name}\n\n```python\nrouter = sor_sb3.routers.make("{name}", market="us_equity"{env})\n```\n\n'
            f"```console\n$ sor-sb3 compare --market us_equity{option}{asked}\n```\n\n"
            f"Its tests name it in `tests/policies`; its code is `{module}.py`.{paper}\n\n"
            f"::: {rule.__module__}.{rule.__qualname__}\n    options: {{show_source: true}}\n{golden}",
        )
        groups[rule.group].append((f"[{name}]({name}.md)", cleandoc(rule.__doc__ or "").splitlines()[0]))
    text = "# Routers\n\nRules that nobody trains. One of your own: [the recipe](../contributing.md#recipes).\n"
    for group, rows in groups.items():
        text += f"\n## {group.capitalize()}\n\n{GROUP_TITLES[group]}\n\n{listed('router', rows)}"
    oracles = ", ".join(f"`{name}`" for name in ORACLE_NAMES)
    text += f"\n## Oracles\n\n{oracles} see what no router can, and say what there is to win.\n"
    write("routers/index.md", text)


def learner_pages() -> None:
    """Each algorithm: its command, its curve where one is kept, and the settings that it ships with."""
    rows = []
    for file in sorted((PACKAGE / "algorithms" / "hyperparams").glob("*.yml")):
        name = file.stem
        if name == "others":  # what an algorithm without a file starts from
            continue
        found = find_algorithm(name).load()
        label = f"`{found.__module__}.{found.__qualname__}`"
        about = f"::: {found.__module__}.{found.__qualname__}\n\n" if found.__module__.startswith("sor_sb3") else ""
        curve = ""
        if name in ("reinforce", "a2c", "ppo"):
            curve = (
                "![Cost on validation scenarios by timestep, of every learner and rule on us_equity]"
                "(../images/learning_curves_us_equity.png)\n\nFrom `sor-sb3 compare --market us_equity`.\n\n"
            )
        write(
            f"learners/{name}.md",
            f"# {name}\n\n{label}\n\n```console\n$ sor-sb3 train --algo {name} --market us_equity\n```\n\n{curve}"
            f"{about}## Settings that it ships with\n\n```yaml\n{file.read_text(encoding='utf-8')}```\n",
        )
        rows.append((f"[{name}]({name}.md)", label))
    start = "# Learners\n\nAnything else by `--algo package.module:Class`: [training](../training.md) says how.\n\n"
    write("learners/index.md", start + listed("algorithm", rows))


def reference_pages() -> None:
    """The public names, from their docstrings, and the modules behind them."""
    pages = {title: re.sub(r"\W+", "_", title.lower()) for title in REFERENCE}
    own = "\n\n".join(f"::: sor_sb3.{name}" for name in sor_sb3.__all__ if name not in ("live", "routers"))
    more = "\n".join(f"- [{title}]({page}.md)" for title, page in pages.items())
    text = f"# Reference\n\nBy room:\n\n{more}\n\nThe public names of `sor_sb3`:\n\n{own}\n"
    write("reference/index.md", text)
    for title, modules in REFERENCE.items():
        body = "\n\n".join(f"::: sor_sb3.{module}" for module in modules.split())
        write(f"reference/{pages[title]}.md", f"# {title}\n\n{body}\n")


def repository_pages() -> None:
    """Pages that stand beside docs/ in the repository, with their links as this folder has them."""
    for name in ("CHANGELOG", "CONTRIBUTING"):
        text = (PACKAGE.parent / f"{name}.md").read_text(encoding="utf-8")
        write(f"{name.lower()}.md", re.sub(r"\]\((?!https?:|docs/|#)", "](../", text).replace("](docs/", "]("))


market_pages()
router_pages()
learner_pages()
reference_pages()
repository_pages()
