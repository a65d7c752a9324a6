"""The verdict of a rollout: a table of what hosts came to, and what is done and said then, as ``docs/deploying.md`` has it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from plugins.module_utils.workfleet.release.verdict import Host, Rollout, Turn, Verdict

ROOT = Path(__file__).resolve().parents[2]
BEGUN, CONVERGED = Turn("begin"), Turn("converge")
CUT_SHORT = Turn("begin", remembered=True)
CANARY, REST, ROLLOUT, REPLACED = Turn("canary"), Turn("rest"), Turn("rollout"), Turn("replace")
CRASH = "node ship.w.1.2 does not stay up. Its last log lines:\n  | fell over\nWhat ran before on this host runs again."
BLAME = "node ship.w.1.2 does not stay up"
UNREACHABLE = "Failed to connect to the host via ssh"
UNDONE, NOT_UNDONE = Turn("undo", rolled_back=True), Turn("undo")
FULL = Turn("current", failed=True, msg="the disk is full")
LOST = Turn("undo", failed=True, msg="node ship.w.1.3 does not stay up")
SITE_TRIES = "What ran before runs again; site.yml tries again what is declared."
SITE_STOPS = "It stops here: site.yml again goes on with what is declared, and with what was declared before it goes back."
DEPLOY_STOPS = "It stops here, and nothing is taken back: deploy.yml again goes on, rollback.yml goes back."
ROLLBACK_STOPS = "It stops here: site.yml goes on with the rest, deploy.yml goes forward again."
DEPLOY_TRIES = "deploy.yml tries again; site.yml does what the inventory declares."
NOTHING = "Nothing was replaced, so there is nothing to go back to: what was started stays as it is"


def crashed(task: str, *, undone: bool = True) -> Turn:
    """A node of the release did not stay up; ``undone`` is whether its own task has brought the host back."""
    return Turn(task, failed=True, msg=CRASH, blame=BLAME, rolled_back=undone)


def locked(task: str) -> Turn:
    return Turn(task, failed=True, msg="ops on build-7 is changing the nodes of ship on this host", locked=True)


def unreachable(task: str) -> Turn:
    return Turn(task, failed=True, msg=UNREACHABLE)


def host(name: str, *turns: Turn, **keys: Any) -> Host:
    """A host that had a release before, with nodes, and has another one now."""
    return Host(name, turns, **{"release": "new", "previous": "old", "runs": True, **keys})


def judged(playbook: str, *hosts: Host, task: str = "", of: str = "web1") -> Verdict:
    return Rollout(playbook, hosts, "new").judge(of, task)


@pytest.mark.parametrize(("hosts", "asked", "turn"), [
    # The canary is one of the first host alone, and this one goes on with the rest of its own.
    ([host("web1", BEGUN), host("web2", BEGUN)], ("web1", "canary"), "canary"),
    ([host("web1", BEGUN, CANARY), host("web2", BEGUN)], ("web1", "rollout"), "rest"),
    ([host("web1", BEGUN, CANARY, REST), host("web2", BEGUN)], ("web2", "canary"), ""),
    ([host("web1", BEGUN, CANARY, REST), host("web2", BEGUN)], ("web2", "rollout"), "rollout"),
    # What a run that was cut short has begun is not what this one has touched.
    ([host("web1", CUT_SHORT), host("web2", CUT_SHORT)], ("web1", "canary"), "canary"),
    ([host("web1", BEGUN, CANARY, REST, Turn("singles")), host("web2", BEGUN, ROLLOUT)], ("web2", "verify"), "verify"),
    # Whatever failed, no other host has a turn.
    ([host("web1", BEGUN, crashed("canary")), host("web2", BEGUN)], ("web1", "rollout"), ""),
    ([host("web1", BEGUN, crashed("canary")), host("web2", BEGUN)], ("web2", "canary"), ""),
    ([host("web1", BEGUN, crashed("canary")), host("web2", BEGUN)], ("web2", "rollout"), ""),
    ([host("web1", CONVERGED, locked("replace")), host("web2", CONVERGED)], ("web2", "replace"), ""),
    ([host("web1", unreachable("converge")), host("web2", CONVERGED)], ("web2", "replace"), ""),
    ([host("web1", CONVERGED, REPLACED), host("web2", CONVERGED, unreachable("replace"))], ("web1", "singles"), ""),
    # But to go back, also after one that could not.
    ([host("web1", LOST), host("web2", crashed("rollout"))], ("web2", "undo"), "undo"),
    ([host("web1", crashed("rollout"))], ("web1", "undo_singles"), "undo_singles"),
    # A host of which nothing is known yet.
    ([], ("web1", "canary"), "canary"),
])
def test_a_host_has_its_turn_unless_another_one_has_failed(hosts: list[Host], asked: tuple[str, str], turn: str) -> None:
    assert judged("deploy", *hosts, of=asked[0], task=asked[1]).task == turn


@pytest.mark.parametrize(("playbook", "hosts", "back"), [
    ("deploy", [host("web1", BEGUN, CANARY, REST), host("web2", BEGUN, ROLLOUT)], []),
    # Those that were touched, and those that a run that was cut short has touched.
    ("deploy", [host("web1", BEGUN, crashed("canary")), host("web2", BEGUN)], ["web1"]),
    ("deploy", [host("web1", BEGUN, CANARY, REST), host("web2", BEGUN, crashed("rollout")), host("web3", BEGUN)], ["web1", "web2"]),
    ("deploy", [host("web1", CUT_SHORT, crashed("canary")), host("web2", CUT_SHORT), host("web3", BEGUN)], ["web1", "web2"]),
    ("deploy", [host("web1", BEGUN, CANARY, Turn("verify", failed=True, msg="no answer")), host("web2", BEGUN, ROLLOUT)], ["web1", "web2"]),
    ("deploy", [host("web1", BEGUN, CANARY, REST), host("web2", BEGUN, unreachable("rollout"))], ["web1", "web2"]),
    # What was locked has met no fault, and takes nothing back.
    ("deploy", [host("web1", BEGUN, CANARY, REST), host("web2", BEGUN, locked("rollout"))], []),
    ("site", [host("web1", locked("converge")), host("web2", CONVERGED)], []),
    ("site", [host("web1", locked("converge")), host("web2", crashed("converge"))], ["web1", "web2"]),
    # site.yml converges all hosts before it replaces anything.
    ("site", [host("web1", CONVERGED, crashed("replace")), host("web2", CONVERGED), host("web3")], ["web1", "web2"]),
    # Each host says for itself what is done with it.
    ("deploy", [host("web1", BEGUN, CANARY, failure_action="pause"), host("web2", BEGUN, crashed("rollout"))], ["web2"]),
    ("deploy", [host("web1", BEGUN, crashed("canary", undone=False), failure_action="pause")], []),
    ("rollback", [host("web1", BEGUN, ROLLOUT), host("web2", BEGUN, crashed("rollout"))], []),
])
def test_hosts_go_back_that_were_touched_where_one_met_a_fault(playbook: str, hosts: list[Host], back: list[str]) -> None:
    assert [each.name for each in hosts if judged(playbook, *hosts, of=each.name).goes_back] == back


FAILED = "web1: node ship.w.1.2 does not stay up\n"
HELD = {"held": "new", "against": "configuration"}


@pytest.mark.parametrize(("playbook", "hosts", "end", "release", "outcome"), [
    ("deploy", [host("web1", BEGUN, CANARY, REST), host("web2", BEGUN, ROLLOUT)], "end", "on", ""),
    ("rollback", [host("web1", BEGUN, ROLLOUT)], "end", "on", ""),
    ("site", [host("web1", CONVERGED, REPLACED)], "end", "", ""),
    # It goes back, and is held where it was the release that failed.
    ("deploy", [host("web1", BEGUN, crashed("canary"), NOT_UNDONE, **HELD)], "end", "running, failed",
     FAILED + "What ran before runs again, and release new is kept for a look. site.yml does not try new again while all is declared as "
     "it is; deploy.yml does."),
    ("deploy", [host("web1", BEGUN, crashed("canary"), NOT_UNDONE, held="new", against="release")], "end", "running, failed",
     FAILED + "What ran before runs again, and release new is kept for a look. site.yml does not try new again while that is declared as "
     "it is; deploy.yml does."),
    ("deploy", [host("web1", BEGUN, unreachable("canary"), UNDONE)], "end", "running, free",
     f"web1: {UNREACHABLE}\nWhat ran before runs again, and release new is kept for a look. {DEPLOY_TRIES}"),
    ("site", [host("web1", CONVERGED, crashed("replace"), NOT_UNDONE, **HELD)], "end", "running, failed",
     FAILED + "What ran before runs again, and its release is held: site.yml does not try new again while all is declared as it is, "
     "deploy.yml does."),
    ("site", [host("web1", CONVERGED, unreachable("replace"), UNDONE)], "end", "running, free", f"web1: {UNREACHABLE}\n{SITE_TRIES}"),
    # Without nodes only `previous` tells; without a release of the app there is none to go back to.
    ("site", [host("web1", crashed("converge"), runs=False)], "end", "old, failed",
     FAILED + "What ran before runs again; site.yml tries again what is declared."),
    ("site", [host("web1", CONVERGED, crashed("replace"), release="", previous="")], "end", "", FAILED + SITE_TRIES),
    # Where nothing ran there is nothing to go back to.
    ("deploy", [host("web1", BEGUN, crashed("canary", undone=False), NOT_UNDONE, previous="")], "end", "",
     FAILED + f"{NOTHING}. {DEPLOY_TRIES}"),
    ("site", [host("web1", crashed("converge", undone=False), NOT_UNDONE, previous="", runs=False)], "end", "",
     FAILED + f"{NOTHING}; site.yml tries again what is declared."),
    ("deploy", [host("web1", BEGUN, crashed("canary"), NOT_UNDONE), host("web2", CUT_SHORT, ROLLOUT, NOT_UNDONE)], "end", "running, failed",
     FAILED + "What ran before runs again; on web2 nothing was replaced, and what was started stays as it is, and release new is kept for "
     f"a look. {DEPLOY_TRIES}"),
    # A host that could not go back is as it is until the next run; the others end.
    ("deploy", [host("web1", BEGUN, crashed("canary"), UNDONE), host("web2", BEGUN, ROLLOUT, LOST)], "end", "running, failed",
     FAILED + f"What ran before runs again but on web2, and release new is kept for a look. {DEPLOY_TRIES}"),
    ("site", [host("web1", CONVERGED, crashed("replace"), UNDONE), host("web2", CONVERGED, REPLACED, unreachable("undo"))],
     "end", "running, failed", FAILED + "What ran before runs again but on web2; site.yml tries again what is declared."),
    # It stops where it is, and the next run goes on.
    ("deploy", [host("web1", BEGUN, crashed("canary", undone=False), failure_action="pause")], "pause", "", FAILED + DEPLOY_STOPS),
    ("deploy", [host("web1", BEGUN, CANARY, locked("rest"))], "pause", "",
     f"web1: ops on build-7 is changing the nodes of ship on this host\n{DEPLOY_STOPS}"),
    ("site", [host("web1", CONVERGED, crashed("replace", undone=False), failure_action="pause")], "pause", "", FAILED + SITE_STOPS),
    ("rollback", [host("web1", BEGUN, crashed("rollout"))], "pause", "", FAILED + ROLLBACK_STOPS),
    ("rollback", [host("web1", BEGUN, ROLLOUT), host("web2", BEGUN, Turn("rollout", failed=True))], "pause", "",
     f"web2: it failed\n{ROLLBACK_STOPS}"),
    # rollback.yml is not over before the release is current on all hosts; of the others the host alone is told.
    ("rollback", [host("web1", BEGUN, ROLLOUT), host("web2", BEGUN, ROLLOUT, gone=True)], "pause", "",
     f"web2 cannot be reached\n{ROLLBACK_STOPS}"),
    ("rollback", [host("web1", BEGUN, ROLLOUT), host("web2", BEGUN, ROLLOUT, FULL)], "pause", "",
     f"web2: the disk is full\n{ROLLBACK_STOPS}"),
    ("deploy", [host("web1", BEGUN, CANARY), host("web2", BEGUN, ROLLOUT, gone=True)], "end", "on", ""),
    ("deploy", [host("web1", BEGUN, CANARY), host("web2", BEGUN, ROLLOUT, FULL)], "end", "on", ""),
])
def test_a_rollout_ends_and_says_so(playbook: str, hosts: list[Host], end: str, release: str, outcome: str) -> None:
    told = judged(playbook, *hosts)
    assert (told.end, told.outcome, told.lost) == (end, outcome, "")
    assert ("on" if told.goes_on else f"{told.returns_to}, {told.hold}" if told.returns_to else "") == release
    assert told.why == (f"web1: {BLAME}" if told.hold == "failed" else "")


@pytest.mark.parametrize("turn", [LOST, FULL])
def test_what_could_not_be_done_on_a_host_is_said_of_it_and_the_next_run_goes_on_there(turn: Turn) -> None:
    hosts = [host("web1", BEGUN, crashed("canary"), UNDONE), host("web2", BEGUN, ROLLOUT, turn)]
    told = judged("deploy", *hosts, of="web2")
    assert (told.lost, told.end) == (turn.msg, "pause")
    assert judged("deploy", *hosts).end == "end"


def test_hosts_without_a_turn_have_no_part() -> None:
    others = [host("web2"), host("web3", failure_action="rollback")]
    assert judged("site", host("web1", CONVERGED, crashed("replace"), UNDONE), *others).outcome == FAILED + SITE_TRIES
    assert judged("site", *others, of="web2") == Verdict()


def test_playbooks_hold_no_rule_and_no_sentence_of_a_rollout() -> None:
    files = [*ROOT.glob("playbooks/**/*.yml"), *ROOT.glob("roles/*/tasks/*.yml")]
    texts = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in files}
    rolling = ("site.yml", "deploy.yml", "rollback.yml", "restart.yml")
    assert sum(len((ROOT / "playbooks" / name).read_text().splitlines()) for name in (*rolling, "common/rollout.yml")) <= 440
    groups = {key for text in texts.values() for key in re.findall(r"key: (workfleet_\w+)", text)}
    assert groups == {"workfleet_stale", "workfleet_back", "workfleet_busy"}
    assert [name for name, text in texts.items() if re.search("runs again[^,]|stops here|is kept for a look", text)] == []
