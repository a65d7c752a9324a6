"""A play from the warm parent is a play of the command: what it says, its status, its directory and its environment are the same."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("ansible")

from tests import warm


def test_a_play_says_and_ends_as_the_commands_does_each_time(tmp_path: Path) -> None:
    show = {"ansible.builtin.debug": {"msg": "{{ lookup('env', 'WHAT') }} {{ lookup('pipe', 'pwd') }} {{ what | default('none') }}"}}
    play = {"hosts": "localhost", "gather_facts": False, "tasks": [show, {"ansible.builtin.fail": {}, "when": "what is defined"}]}
    (tmp_path / "play.yml").write_text(json.dumps([play]))
    environment = {"WHAT": "this", "ANSIBLE_CONFIG": str(warm.ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"}
    for words, status in ((["-e", "what=told"], 2), ([], 0)):
        command = ["-i", "localhost,", str(tmp_path / "play.yml"), *words]
        program = Path(sys.executable).with_name("ansible-playbook")
        real = subprocess.run([str(program), *command], check=False, capture_output=True, text=True, cwd=tmp_path,
                              env={**os.environ, **environment})
        ours = warm.play(command, env=environment, cwd=tmp_path)
        assert (ours.returncode, ours.stdout, ours.stderr) == (real.returncode, real.stdout, real.stderr)
        assert ours.returncode == status and f"this {tmp_path} " in ours.stdout
