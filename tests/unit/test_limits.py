"""How much is taken, and that more is refused before any host is touched."""

from __future__ import annotations

import pytest

from plugins.module_utils.workfleet.host import limits


@pytest.mark.parametrize(("command", "environment", "said"), [
    (["celery", "-Q", "q" * limits.MOST_WORD_BYTES], {"A": "b"}, ""),
    (["celery", "-Q", "q" * (limits.MOST_WORD_BYTES + 1)], {}, "its command has a word of 131072 bytes"),
    (["x", *["y" * 1000] * 300], {}, "its command has 300001 bytes, and 262144 are taken"),
    ([], {"A": "€" * 43689}, ""),
    ([], {"A": "€" * 43690}, "A has 131070 bytes, and the kernel takes 131071 with its name"),
    ([], {f"A{number}": "x" * 99_000 for number in range(6)}, "its environment has 594036 bytes, and 524288 are taken"),
])
def test_what_no_process_can_be_started_with_is_refused(command: list[str], environment: dict[str, str], said: str) -> None:
    """Each value was judged by itself, and by its characters."""
    found = "\n".join(limits.too_large(command, environment))
    assert said in found and bool(found) == bool(said)
    assert "xxxx" not in found
