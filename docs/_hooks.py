"""What the site does to a page: links to files of the repository outside docs/ become the files' names."""

from __future__ import annotations

import re
from typing import Any

_OUTSIDE = re.compile(r"\[([^\]]+)\]\(\.\./([^)#\s]+)(?:#[^)]*)?\)")
_PAGES = {"README.md": "index.md"}


def on_page_markdown(markdown: str, **_: Any) -> str:
    """`[text](../path)`, which the repository's own pages have, as `text (path)`; the README is the home page."""

    def named(found: re.Match[str]) -> str:
        text, path = found[1], found[2]
        if path in _PAGES:
            return f"[{text}]({_PAGES[path]})"
        return text if path.rstrip("/") in text else f"{text} (`{path}`)"

    return _OUTSIDE.sub(named, markdown)
