"""Docstrings as the site shows them: doctests are blocks of code, roles of Sphinx are code."""

from __future__ import annotations

import re
from typing import Any

import griffe

_DOCTEST = re.compile(r"^( *)>>> .*(?:\n\1(?! *$).+)*", re.MULTILINE)
_ROLE = re.compile(r":(?:class|func|meth|mod|attr|data):`~?([^`]+)`")


def as_markdown(text: str) -> str:
    """A docstring with each doctest, to the empty line that ends it, in a fence."""
    fenced = _DOCTEST.sub(lambda found: f"{found[1]}```pycon\n{found[0]}\n{found[1]}```", text)
    return _ROLE.sub(r"`\1`", fenced)


class MarkdownDocstrings(griffe.Extension):
    """What mkdocs.yml names."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Each object as it is read."""
        if obj.docstring:
            obj.docstring.value = as_markdown(obj.docstring.value)
