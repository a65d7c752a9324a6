"""What a deploy says at its end."""

from __future__ import annotations

from typing import Any

from ansible_collections.workfleet.core.plugins.action.deploy_report import report


def step(action: str, slot: int, host: str, reason: str = "it is not running") -> dict[str, Any]:
    return {"host": host, "action": action, "group": "w", "slot": slot, "incarnation": 1, "reason": reason}


def line(node: str, state: str = "gone", **figures: Any) -> dict[str, Any]:
    told = {"running_before": 2, "finished": 2, "returned": 1, "lost": 0, "duplicates": 0, "seconds": 3.0}
    return {"node": node, "state": state, **told, **figures}


def test_a_deploy_says_from_where_to_where_how_many_nodes_what_became_of_the_tasks_and_how_long_it_took() -> None:
    untold = dict.fromkeys(("finished", "returned", "lost", "duplicates"))
    done = [{"host": host, "steps": [step("write", 1, host), step("start", 1, host), step("stop", 1, host, "it is replaced"),
                       {"host": host, "action": "reload", "group": None, "reason": ""}],
             "ledger": [line(f"shop.w.1.1@{host}", "draining", **untold), line(f"shop.w.1.0@{host}")]} for host in ("web1", "web2")]
    done.append({"host": "web1", "steps": [], "ledger": [line("shop.w.1.1@web1")]})
    told = report("shop", "b", ["a"], done, 34.6)
    assert told["text"] == (
        "shop: from release a to b; 2 nodes replaced, 2 started on 2 hosts in 35 s; old nodes: 1 still draining; 1 gone, of their tasks "
        "2 ran, 2 finished, 1 returned, 0 lost; what becomes of the tasks of those that drain is told by the next run")
    assert (told["from"], told["to"], told["started"], told["replaced"], told["hosts"]) == (["a"], "b", 2, 2, 2)


def test_where_nothing_was_to_do_a_deploy_says_that_the_release_is_already_current() -> None:
    nothing = [{"host": "web1", "steps": [step("remove", 1, "web1", "it is replaced")], "ledger": []}]
    assert "release b is already current" in report("shop", "b", ["b"], nothing, 3.0)["text"]
    assert "from release none to b" in report("shop", "b", [], nothing, 3.0)["text"]
    assert "release b stays; 0 nodes replaced, 1 started on 1 host" in report("shop", "b", ["b"], [
        {"host": "web1", "steps": [step("start", 1, "web1")], "ledger": []}], 3.0)["text"]
