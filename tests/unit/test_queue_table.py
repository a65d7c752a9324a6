"""What a person reads about queues; what two hosts tell of the same one."""

from __future__ import annotations

from ansible_collections.workfleet.core.plugins.plugin_utils import queues, status

from plugins.module_utils.workfleet.engines.verbs.figures import Figures


def test_a_figure_that_is_not_told_is_a_dash_and_an_age_says_how_far_it_holds() -> None:
    known = Figures("a", waiting=7, running=0, oldest_age_seconds=130, oldest_age_is="at_least", consumers=2).entry("celery")
    other = Figures("b", declared=False).entry("celery")
    head, first, second, note, _, title, problem = queues.table([known, other], ["it burns"], lambda text, _: text)
    assert head.split() == ["QUEUE", "ENGINE", "WAITING", "RUNNING", "OLDEST", "NODES"]
    assert first.split() == ["a", "celery", "7", "0", "≥2m", "2"]
    assert second.split() == ["b", "*", "celery", "-", "-", "-", "-"]
    assert (note, title, problem) == ("* consumed by no declared worker group", "problems:", "  it burns")


def test_what_the_nodes_of_two_hosts_do_adds_up_and_what_the_broker_tells_does_not() -> None:
    one, two = (Figures("a", waiting=waiting, running=1, consumers=consumers).entry("celery")
                for waiting, consumers in ((None, 1), (5, None)))
    both = status.joined(one, two)
    assert (both["waiting"], both["running"], both["consumers"]) == (5, 2, None)
