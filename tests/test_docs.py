"""The pages of docs/: the commands that they show can be given, and the site has all of them in its navigation."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from html import unescape
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer
import yaml

import sor_sb3
from sor_sb3 import cli
from sor_sb3.market.loading import load_market
from sor_sb3.policies import registry

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]


def shown_commands(page: Path) -> list[str]:
    """Each ``sor-sb3`` line of a page's console blocks, with the lines that continue it; those of the cheat sheet."""
    text = page.read_text(encoding="utf-8")
    if page.stem == "cheat_sheet":
        return re.findall(r"`(sor-sb3 [^`]+)`", text)
    blocks = re.findall(r"```console\n(.*?)```", text, re.DOTALL)
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
    nav = yaml.safe_load(re.sub(r"^plugins:.*?^nav:", "nav:", (ROOT / "mkdocs.yml").read_text(), flags=re.S | re.M))[
        "nav"
    ]
    text = str(nav)
    for page in (*DOCS.glob("*.md"), *DOCS.glob("tutorials/*.py")):
        assert page.relative_to(DOCS).as_posix() in text, page


def test_the_market_file_that_the_pages_show_is_one(tmp_path):
    text = re.search(r"```yaml\n(name: .*?)```", (DOCS / "your_market.md").read_text(encoding="utf-8"), re.DOTALL)
    assert text is not None
    (tmp_path / "two_venues.yaml").write_text(text[1], encoding="utf-8")
    market = load_market(tmp_path / "two_venues.yaml")
    assert market.name == "two_venues" and market.n_venues == 3


def site_module(name: str) -> Any:
    """A module of docs/ that makes the site."""
    spec = spec_from_file_location(name, DOCS / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def a_page(source: Path | str) -> SimpleNamespace:
    path = Path(source)
    return SimpleNamespace(
        file=SimpleNamespace(src_uri=f"{path.parent.name}/{path.name}".lstrip("/"), abs_src_path=path)
    )


def test_links_out_of_the_folder_become_names():
    text = "[train](../scripts/train.py), [`a.py`](../a.py), [home](../README.md), [here](market.md#a)"
    shown = site_module("_hooks").on_page_markdown(text, page=a_page("x.md"))
    assert shown == "train (`scripts/train.py`), `a.py`, [home](index.md), [here](market.md#a)"


def test_each_figure_of_a_tutorial_says_what_it_shows(tmp_path):
    (tmp_path / "tutorials").mkdir()
    page = a_page(tmp_path / "tutorials" / "x.py")
    page.file.abs_src_path.write_text('# alt: A curve that "falls"\nplt.show()\n')
    image, hooks = '<img alt="No description has been provided for this image" src="x">', site_module("_hooks")
    assert hooks.on_post_page(image, page=page) == '<img alt="A curve that &quot;falls&quot;" src="x">'
    with pytest.raises(ValueError, match=r"x.py: a figure has no '# alt:"):
        hooks.on_post_page(image + image, page=page)


def test_a_doctest_is_a_block_of_code():
    pytest.importorskip("griffe", reason="the site's tools are not installed: make docs")
    shown = site_module("_docstrings").as_markdown("A :func:`~a.sum`.\n\n  >>> 1 + 1\n  2\n\nThe end.")
    assert shown == "A `a.sum`.\n\n  ```pycon\n  >>> 1 + 1\n  2\n  ```\n\nThe end."


@pytest.mark.parametrize("file", sorted(DOCS.glob("tutorials/*.py")), ids=lambda file: file.stem)
def test_a_figure_stands_below_its_alt_text(file):
    text = file.read_text(encoding="utf-8")
    assert text.count("plt.show()") == len(re.findall(r"# alt: .+\nplt\.show\(\)", text))


def test_pictures_have_alt_text():
    for page in PAGES:
        assert not re.search(r"!\[\s*\]\(", page.read_text(encoding="utf-8")), page


def test_the_bibliography_has_every_paper_that_is_named_by_a_number():
    listed = (DOCS / "bibliography.md").read_text(encoding="utf-8")
    named = r"(?:doi:|doi\.org/|arXiv:|arxiv\.org/abs/)([\w./\-]+\w)"
    sources = [*PAGES, *DOCS.glob("tutorials/*.py"), *(ROOT / "sor_sb3").rglob("*.py")]
    found = {number for file in sources for number in re.findall(named, file.read_text(encoding="utf-8"))}
    assert len(found) > 10 and not {number for number in found if number not in listed}


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
    assert not dead_links(tmp_path / "site")
    shown = look_at(tmp_path / "site")
    assert not shown, "\n".join(shown[:20])


def pages_of(site: Path) -> list[Path]:
    """All but the one that only a server shows, with paths from its root."""
    return sorted(file for file in site.rglob("*.html") if file.name != "404.html")


def dead_links(site: Path) -> list[str]:
    """Links and pictures of the site that lead to no file of it."""
    links = [
        (page, unescape(link))
        for page in pages_of(site)
        for link in re.findall(r'(?:href|src)="([^"#?:]+)[#?"]', page.read_text(encoding="utf-8"))
    ]
    return [f"{page.relative_to(site)}: {link}" for page, link in links if not (page.parent / link).exists()]


IN_A_PAGE = """() => {
  const width = document.documentElement.clientWidth, found = [];
  if (document.documentElement.scrollWidth > width) found.push('the page is wider than the window');
  const scrolls = element => {
    for (let around = element; around !== document.body; around = around.parentElement)
      if (getComputedStyle(around).overflowX !== 'visible') return true;
    return false;
  };
  for (const element of document.querySelectorAll('.md-content *'))
    if (element.getBoundingClientRect().right > width + 1 && !scrolls(element)) {
      found.push(`${element.tagName} goes over the edge: ${element.textContent.trim().slice(0, 60)}`);
      break;
    }
  for (const image of document.images) {
    if (!image.alt.trim() || image.alt.startsWith('No description')) found.push('a picture without alt text');
    if (!image.naturalWidth) found.push(`a picture does not load: ${image.src.slice(0, 80)}`);
  }
  return found;
}"""


def look_at(site: Path) -> list[str]:
    """What is wrong with the site's pages in Chromium, opened from disk, narrow and wide, light and dark."""
    if CHROMIUM is None or find_spec("playwright") is None:
        pytest.skip("built without warnings; to look at it, install Chromium, and playwright by pip")
    from playwright.sync_api import sync_playwright

    wrong: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        for width, scheme in product((360, 1280), ("light", "dark")):
            page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
            said: list[str] = []
            page.on(
                "console", lambda message, said=said: said.append(message.text) if message.type == "error" else None
            )
            page.on("pageerror", lambda error, said=said: said.append(str(error)))
            page.on(
                "request", lambda asked, said=said: said.append(asked.url) if asked.url.startswith("http") else None
            )
            for file in pages_of(site):
                said.clear()
                page.goto(file.as_uri())
                where = f"{file.relative_to(site)}, {width} px, {scheme}"
                wrong += [f"{where}: {what}" for what in (*page.evaluate(IN_A_PAGE), *said)]
            page.close()
        browser.close()
    return wrong


def snippets(page: str) -> list[str]:
    """The blocks of Python of a page."""
    return re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(encoding="utf-8"), re.DOTALL)


def test_a_rule_of_ones_own_is_written_and_scored_as_its_page_says(tmp_path, monkeypatch, capsys):
    rule, scored = snippets("your_rule.md")
    (tmp_path / "my_rules.py").write_text(rule, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(registry, "_ROUTERS", dict(registry._ROUTERS))  # other tests know nothing of this rule
    exec(compile(scored.replace("1000", "50"), "your_rule.md", "exec"), {})
    assert "mine" in capsys.readouterr().out


def test_the_plain_script_trains_and_its_policy_is_used_by_onnx_runtime_alone(tmp_path, monkeypatch, capsys):
    pytest.importorskip("onnxruntime", reason="needs the extra 'onnx'")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    script = snippets("training.md")[0].replace("20_000", "640").replace("scenarios=200", "scenarios=20")
    exec(compile(script, "training.md", "exec"), names)
    sor_sb3.export_onnx(names["model"], "policy.onnx")
    alone = snippets("reports.md")[0]
    assert "sor_sb3" not in alone
    exec(compile(alone, "reports.md", "exec"), {})
    assert "a2c" in capsys.readouterr().out
