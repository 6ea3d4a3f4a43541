"""Globs that both languages compile alike (docs/PROTOCOL.md, "Globs").

`*` is any run of characters, `?` is one character (a code point), everything else is literal and case-sensitive.
"""

from __future__ import annotations

import re
from functools import lru_cache


@lru_cache(maxsize=2048)
def compile_glob(pattern: str) -> re.Pattern[str]:
    """A pattern object whose `fullmatch` says whether a text matches."""
    runs = ["".join("." if char == "?" else re.escape(char) for char in run) for run in pattern.split("*")]
    first, rest = runs[0], runs[1:]
    if not rest:
        return re.compile(first, re.DOTALL)
    *middle, last = rest
    # An atomic group takes the first place where a run fits and never looks back, which is always right between two
    # stars and keeps a hostile text from making the match exponential.
    steps = "".join(f"(?>.*?{run})" for run in middle if run)
    return re.compile(f"{first}{steps}.*{last}", re.DOTALL)


def glob_matches(pattern: str, text: str) -> bool:
    """Whether the whole text matches the pattern."""
    return compile_glob(pattern).fullmatch(text) is not None
