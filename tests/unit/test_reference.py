"""The reference says what the code says."""

from __future__ import annotations

import re
from pathlib import Path

from docs import generate  # which needs yaml

PLAYBOOKS = Path(generate.ROOT) / "playbooks"


def test_the_reference_is_current() -> None:
    here = {path.relative_to(generate.DOCS).as_posix() for path in generate.REFERENCE.iterdir()} | {"decisions/README.md", "limits.md"}
    here |= {f"../roles/{path.name}/README.md" for path in (generate.ROOT / "roles").iterdir()}
    written = {name: (generate.DOCS / name).read_text(encoding="utf-8") for name in here}
    assert written == generate.pages(), "run python docs/generate.py"


def test_every_playbook_is_in_the_table_and_no_other_is_said_to_be_there() -> None:
    page = (generate.ROOT / "docs" / "playbooks.md").read_text(encoding="utf-8")
    there = page.partition("## Not there yet")[0]
    assert {path.name for path in PLAYBOOKS.glob("*.yml")} == {
        line.split("`")[1] for line in there.splitlines() if line.startswith("| `")}


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page, as GitHub makes them from its headings."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_links_inside_the_documentation_lead_somewhere() -> None:
    pages = [*generate.ROOT.glob("*.md"), *(generate.DOCS).rglob("*.md")]
    for page in pages:
        for target, anchor in re.findall(r"\]\(([^)#:]*)(?:#([^)]*))?\)", page.read_text(encoding="utf-8")):
            aim = page.parent / target if target else page
            assert aim.exists(), f"{page.name}: {target}"
            assert not anchor or anchor in anchors(aim), f"{page.name}: {target}#{anchor}"
