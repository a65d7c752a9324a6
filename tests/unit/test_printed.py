"""What pages print is compared with runs: what counts, what does not, and that each mark has a test."""

from __future__ import annotations

import re

import pytest

from tests import printed

PAGES = [printed.ROOT / "README.md", *sorted((printed.ROOT / "docs").rglob("*.md"))]
MARKS = [(page, block["test"], block["name"]) for page in PAGES for block in printed.MARK.finditer(page.read_text(encoding="utf-8"))]
RUN = """TASK [Look] *********
  web1: 2 nodes ready, watched for 5.1 s

HOST  NODE  STATE   UP  DONE  RELEASE
web1  1.1   ready  19s    12  33738e38b26f
web2  2.1   ready   2m     -  33738e38b26f
"""


@pytest.mark.parametrize("block", [
    RUN,
    "  web1: 2 nodes ready, watched for 30 s\n",
    "TASK [Look] ***\n  web1: 2 nodes ready,\n  watched for 5 s\n…\nweb2  2.1  ready  3s  7  b6cc4565d58f\n",
    "…\nHOST  NODE  STATE  UP  DONE  RELEASE\n",
])
def test_times_ids_figures_of_tables_widths_and_line_ends_are_not_compared(block: str) -> None:
    assert printed.difference(block, RUN) == ""


@pytest.mark.parametrize("block", [
    "  web1: 3 nodes ready, watched for 5 s\n",
    "web2  2.1  draining  3s  7  b6cc4565d58f\n",
    "web1  1.1  ready  3s  7  b6cc4565d58f\n…\n  web1: 2 nodes ready, watched for 5 s\n",
])
def test_a_number_in_a_sentence_a_word_and_the_order_are(block: str) -> None:
    assert "it was not printed" in printed.difference(block, RUN)


def test_what_has_changed_is_written_between_the_lines_that_were_chosen() -> None:
    block = ("…\n  web1: 2 nodes ready, watched for 1 s\nHOST  NODE  STATE   UP  DONE  RELEASE\n…\n"
             "web2  2.1   ready   9s     -  33738e38b26f\n")
    changed = RUN.replace("\n\nHOST", "\n  one line more\n\nHOST")
    assert printed.difference(block, changed)
    assert printed.written(block, changed) == (
        "…\n  web1: 2 nodes ready, watched for 5.1 s\n  one line more\n\nHOST  NODE  STATE   UP  DONE  RELEASE\n…\n"
        "web2  2.1   ready   2m     -  33738e38b26f\n")
    assert printed.written("", RUN) == RUN
    with pytest.raises(AssertionError, match="choose another line to begin or end with; this was not printed: PLAY"):
        printed.written("PLAY\n", RUN)


def test_each_mark_is_compared_by_the_test_that_it_names() -> None:
    assert {str(page.relative_to(printed.ROOT)) for page, _, _ in MARKS} >= {
        "README.md", "docs/deploying.md", "docs/guide.md", "docs/playbooks.md"}
    for page, test, name in MARKS:
        text = (printed.ROOT / test).read_text(encoding="utf-8")
        assert re.search(rf'printed\.same\(\s*"{page.relative_to(printed.ROOT)}",\s*"{name}"', text), (test, name)
    counted = sum(page.read_text(encoding="utf-8").count("<!-- printed by") for page in PAGES)
    assert counted == len(MARKS), "a mark stands right above its block, which begins with ```"
