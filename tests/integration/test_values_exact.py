"""What a node's process is given is what the inventory says, whatever the value, under a real supervisord.

The same under a real systemd: ``molecule/values``.
"""

from __future__ import annotations

import json
import pwd
from pathlib import Path

import pytest

from tests.fakes import values
from tests.integration.supervised import ME, Site, site

__all__ = ["site"]


@pytest.mark.parametrize("group", values.given())
def test_every_value_arrives_exactly_and_nothing_else_does(
    site: Site, monkeypatch: pytest.MonkeyPatch, group: str
) -> None:
    monkeypatch.setenv("AROUND_ANSIBLE", "no business of a node")
    site.converge([one for one in values.groups(site.run_directory) if one["name"] == group])
    dump = json.loads(Path(site.run_directory, f"{group}.json").read_text())
    assert values.differences(group, dump) == []
    assert {key: value for key, value in dump["env"].items() if key not in values.environment(group)} == {
        "HOME": pwd.getpwnam(ME).pw_dir, "USER": ME, "LOGNAME": ME, "SHELL": "/bin/sh", "LANG": "C.UTF-8",
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "SPT_NOENV": "1",
        "WORKFLEET_GENERATION": site.present()[f"{group}.1.1"].generation,
        "WORKFLEET_RECORD": f"{site.run_directory}/workfleet.shop.{group}.1.1.json",
    }
