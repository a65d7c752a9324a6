"""Pages print what runs printed: a block behind a mark is compared with what the test that the mark names has seen.

    <!-- printed by tests/integration/test_demo.py: status -->

A line ``…`` in the block stands for lines that are left out. What differs from run to run is not compared (:data:`CHANGING`, figures in
tables), nor is where lines are broken. ``WORKFLEET_WRITE_DOCS=1`` writes what has changed between the first and the last line of each part.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MARK = re.compile(r"^<!-- printed by (?P<test>[\w/.]+): (?P<name>[\w-]+) -->\n```\w*\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE)
LEFT_OUT = "…"
#: What differs from run to run, and what is compared in its place.
CHANGING = (
    (re.compile(r"\b(?=[0-9]*[a-f])[0-9a-f]{12}(?=\b|_)"), "ID"),
    (re.compile(r"\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d\S*"), "TIME"),
    (re.compile(r"(?<![\w.])\d+(\.\d+)?(?= ?(s|ms|m|h|min|MB)\b)"), "0"),
    (re.compile(r"\bpid \d+"), "pid 0"),
    (re.compile(r"(127\.0\.0\.1|localhost):\d+"), "127.0.0.1:0"),
    (re.compile(r"/tmp/[\w./-]+"), "/tmp/PLACE"),
    (re.compile(r"\*{3,}"), "***"),
)
FIGURE = re.compile(r"(-|[<≥]?\d+(\.\d+)?[smhdKMG%]?)\Z")
COLUMNS = 4


def same(page: str, name: str, output: str) -> None:
    """Fail where a block of a page is not what was printed any more, or write it."""
    path = ROOT / page
    text = path.read_text(encoding="utf-8")
    found = [block for block in MARK.finditer(text) if block["name"] == name]
    assert len(found) == 1, f"{page} has {len(found)} blocks that are marked {name}"
    problem = difference(found[0]["text"], output)
    if problem and os.environ.get("WORKFLEET_WRITE_DOCS"):
        begin, end = found[0].span("text")
        path.write_text(text[:begin] + written(found[0]["text"], output) + text[end:], encoding="utf-8")
    else:
        assert not problem, f"{page}, {name}: {problem}\nWORKFLEET_WRITE_DOCS=1 writes it anew. It was printed:\n{output}"


def difference(block: str, output: str) -> str:
    """Say which part of a block was not printed, behind the one before it; or nothing."""
    rest = comparable(output)
    for part in parts(block):
        wanted = comparable("\n".join(part))
        _, found, rest = rest.partition(wanted)
        if not found:
            return f"it was not printed: {wanted}"
    return ""


def written(block: str, output: str) -> str:
    """Return the block with all that was printed between the first and the last line of each part; an empty one takes everything."""
    lines = [line.rstrip() for line in output.splitlines()]
    found, at = [], 0
    for part in parts(block) or [[lines[0], lines[-1]]]:
        begin = line_of(part[0], lines, at)
        at = line_of(part[-1], lines, begin) + 1
        found.append("\n".join(lines[begin:at]))
    edge = [LEFT_OUT + "\n" if block.strip().splitlines()[end:][:1] == [LEFT_OUT] else "" for end in (0, -1)]
    return edge[0] + f"\n{LEFT_OUT}\n".join(found) + "\n" + edge[1]


def line_of(line: str, lines: list[str], begin: int) -> int:
    """Return the number of a line that was printed."""
    for number in range(begin, len(lines)):
        if comparable(lines[number]) == comparable(line):
            return number
    raise AssertionError(f"choose another line to begin or end with; this was not printed: {line}")


def parts(block: str) -> list[list[str]]:
    """Return the lines of a block, taken apart where some are left out."""
    found: list[list[str]] = [[]]
    for line in block.splitlines():
        if line.strip() == LEFT_OUT:
            found.append([])
        else:
            found[-1].append(line)
    return [part for part in found if any(map(str.strip, part))]


def comparable(text: str) -> str:
    """Return the words of a text without what differs from run to run."""
    text = "\n".join(map(without_figures, text.splitlines()))
    for pattern, word in CHANGING:
        text = pattern.sub(word, text)
    return " ".join(text.split())


def without_figures(line: str) -> str:
    """Return a line of a table with nothing for its figures; any other line as it is."""
    cells = re.split(r" {2,}", line.strip())
    return "  ".join("0" if FIGURE.match(cell) else cell for cell in cells) if len(cells) >= COLUMNS else line
