"""What the site does to a page: links out of docs/ become names of files, figures of tutorials say what they show."""

from __future__ import annotations

import re
from html import escape
from pathlib import Path
from typing import Any

_OUTSIDE = re.compile(r"\[([^\]]+)\]\(\.\./([^)#\s]+)(?:#[^)]*)?\)")
_PAGES = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
_ALT_TEXT = re.compile(r"# alt: (.+)")
_NO_ALT_TEXT = re.compile(r'alt="No description has been provided for this image"')
_TUTORIAL = re.compile(r'href="(\w+)\.py"')


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """`[text](../path)`, which the repository's own pages have, as `text (path)`; the README is the home page."""
    if "/" in page.file.src_uri:  # a generated page, which stands a folder deeper
        return markdown

    def named(found: re.Match[str]) -> str:
        text, path = found[1], found[2]
        if path in _PAGES:
            return f"[{text}]({_PAGES[path]})"
        return text if path.rstrip("/") in text else f"{text} (`{path}`)"

    return _OUTSIDE.sub(named, markdown)


def on_post_page(output: str, page: Any, **_: Any) -> str:
    """A tutorial's figures get the texts of its `# alt:` comments, in order; links to scripts lead to their pages.

    Raises:
        ValueError: a tutorial has more figures than such comments.
    """
    if not page.file.src_uri.startswith("tutorials/"):
        return output
    texts = iter(_ALT_TEXT.findall(Path(page.file.abs_src_path).read_text(encoding="utf-8")))

    def described(_: re.Match[str]) -> str:
        text = next(texts, None)
        if text is None:
            raise ValueError(f"{page.file.src_uri}: a figure has no '# alt: ...' comment, which says what it shows")
        return f'alt="{escape(text)}"'

    return _NO_ALT_TEXT.sub(described, _TUTORIAL.sub(r'href="\1.html"', output))
