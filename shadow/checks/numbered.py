"""Whether a text holds a numbered list."""

from __future__ import annotations

import re

_ITEM = re.compile(r"^[ \t]{0,3}(?:\*\*)?(\d{1,4})[.)](?:\*\*)?[ \t]+\S", re.MULTILINE)
_CODE = re.compile(r"```.*?(?:```|\Z)", re.DOTALL)


def list_fault(text: str, least: int | None = None, most: int | None = None) -> str:
    """Return what is wrong with a text's numbered list, empty where nothing is.

    It has to be one list, numbered 1, 2, 3 … without a gap, at the margin; deeper ones are parts of
    their items, and numbers in code blocks are none. Text before and after it is allowed.
    """
    numbers = [int(number) for number in _ITEM.findall(_CODE.sub("", text))]
    if not numbers:
        return "has no numbered list"
    if numbers != list(range(1, len(numbers) + 1)):
        return "the list is not numbered 1, 2, 3 without a gap"
    if least is not None and len(numbers) < least:
        return f"{len(numbers)} list items, fewer than {least}"
    if most is not None and len(numbers) > most:
        return f"{len(numbers)} list items, more than {most}"
    return ""
