"""Read what a class's docstring says of its fields."""

from __future__ import annotations

import inspect
import re


def told_fields(cls: type) -> dict[str, str]:
    """Return what the docstring's list ``Attributes`` says of each field, in its order."""
    _, _, section = (inspect.getdoc(cls) or "").partition("\nAttributes:\n")
    entries = re.split(r"\n(?! {4}|$)", section)[0]
    found = re.findall(r"^ {4}(\w+): (.+(?:\n {8}.+)*)", entries, re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in found}
