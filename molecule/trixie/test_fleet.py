"""What another release of Debian could change: units, processes and their limits, Valkey, a boot."""

from common import (  # noqa: F401 - pytest collects the tests of that file here
    test_a_canary_comes_back_from_every_queue,
    test_a_change_is_predicted_restarts_only_its_group_and_loses_no_task,
    test_a_reboot_brings_every_node_back,
    test_absent_leaves_no_trace,
    test_every_declared_node_is_one_process,
    test_limits_are_those_of_the_process,
    test_no_unit_is_exposed_more_than_its_sandbox_promises,
    test_status_tells_what_is,
    test_tasks_of_each_kind_are_done,
)
