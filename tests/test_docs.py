"""The pages of docs/: the commands that they show can be given, and the site has all of them in its navigation."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import typer
import yaml

from sor_sb3 import cli
from sor_sb3.market.loading import load_market

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]


def shown_commands(page: Path) -> list[str]:
    """Each ``sor-sb3`` line of a page's console blocks, with the lines that continue it."""
    blocks = re.findall(r"```console\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    lines = [line.removeprefix("$ ").partition("  #")[0].strip() for line in lines if line.startswith("$ ")]
    return [line for line in lines if Path(line.split()[0]).name == "sor-sb3"]


SHOWN = [(page.name, line) for page in PAGES for line in shown_commands(page)]


def test_there_are_commands():
    assert len(SHOWN) > 40


@pytest.mark.parametrize(("page", "line"), SHOWN)
def test_a_command_that_a_page_shows_can_be_given(page, line):
    """The command, its options and the kinds of their values exist; nothing is run."""
    command, words = typer.main.get_command(cli.app), shlex.split(line)[1:]
    while hasattr(command, "commands"):
        assert words and words[0] in command.commands, f"{page}: {line}"
        command, words = command.commands[words[0]], words[1:]
    command.make_context("sor-sb3", words)


def test_the_site_has_every_page():
    nav = yaml.safe_load(re.sub(r"^plugins:.*?^nav:", "nav:", (ROOT / "mkdocs.yml").read_text(), flags=re.S | re.M))["nav"]
    text = str(nav)
    for page in (*DOCS.glob("*.md"), *DOCS.glob("tutorials/*.py")):
        assert page.relative_to(DOCS).as_posix() in text, page


def test_the_market_file_that_the_pages_show_is_one(tmp_path):
    text = re.search(r"```yaml\n(name: .*?)```", (DOCS / "your_market.md").read_text(encoding="utf-8"), re.DOTALL)
    assert text is not None
    (tmp_path / "two_venues.yaml").write_text(text[1], encoding="utf-8")
    market = load_market(tmp_path / "two_venues.yaml")
    assert market.name == "two_venues" and market.n_venues == 3


@pytest.mark.slow
@pytest.mark.skipif(find_spec("mkdocs_jupyter") is None, reason="the site's tools are not installed: make docs")
def test_the_site_is_built_without_warnings(tmp_path):
    """All tutorials run in it."""
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "-d", str(tmp_path / "site")],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert (tmp_path / "site" / "index.html").is_file()
