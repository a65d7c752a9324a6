"""Which ansible-core there must be is said in one sentence, and the same everywhere."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible.errors import AnsibleActionFail
from ansible.release import __version__
from ansible_collections.workfleet.core.plugins.plugin_utils import actions

ROOT = Path(__file__).resolve().parents[2]


def test_an_ansible_that_is_too_old_is_refused_with_those_that_do() -> None:
    for version in ("2.17.14", "2.18.0rc1"):
        with pytest.raises(AnsibleActionFail, match=rf"needs ansible-core 2\.19 to 2\.21, and this is {version}; no host was touched"):
            actions.require_ansible(version)
    for version in ("2.19.0", "2.22.0.dev0", "3.0", __version__):
        actions.require_ansible(version)


def test_the_collection_says_the_same_to_ansible_and_to_pip() -> None:
    (least, line), (_, newest) = actions.SUPPORTED
    assert f'requires_ansible: ">={least}.{line}.0,<{least}.{newest + 1}.0"' in (ROOT / "meta" / "runtime.yml").read_text(encoding="utf-8")
    assert f"<{least}.{newest + 1};" in (ROOT / "requirements.txt").read_text(encoding="utf-8")
