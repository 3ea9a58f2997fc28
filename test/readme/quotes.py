#!/usr/bin/env python3
# SPDX-License-Identifier: BSL-1.0
"""Checks that the programs in README.md are the compiled ones.

A comment `<!-- FILE [NAME] -->` before a code block says which region of which file it shows: the lines between the two
lines `//! [NAME]`. With --update the blocks are written anew.
"""
import re
import sys
from pathlib import Path

root = Path(__file__).resolve().parents[2]
readme = root / "README.md"
block = re.compile(r"<!-- (\S+) \[(\w+)\] -->\n```cpp\n(.*?)```\n", re.S)


def region(file: str, name: str) -> str:
    marker = f"//! [{name}]\n"
    parts = (root / file).read_text().split(marker)
    if len(parts) != 3:
        raise SystemExit(f"{file}: no region {name}")
    return parts[1]


text = readme.read_text()
if "--update" in sys.argv:
    readme.write_text(block.sub(
        lambda m: f"<!-- {m[1]} [{m[2]}] -->\n```cpp\n{region(m[1], m[2])}```\n", text))
    sys.exit()

quotes = list(block.finditer(text))
stale = [m for m in quotes if m[3] != region(m[1], m[2])]
for m in stale:
    print(f"README.md: the quote of {m[1]} [{m[2]}] is not what is compiled; run test/readme/quotes.py --update")
passed = len(quotes) - len(stale)
print(f"{passed} passed, {len(stale)} failed")
sys.exit(bool(stale) or not quotes)
