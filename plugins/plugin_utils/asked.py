"""What a run was asked for on the command line, and whether all of it can be had: the files of the inventory, the tags."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from ansible import context
from ansible.inventory.manager import IGNORED
from ansible.playbook import Playbook
from ansible.utils.collection_loader._collection_finder import _get_collection_playbook_path
from ansible.utils.path import unfrackpath

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ansible.inventory.manager import InventoryManager
    from ansible.playbook.task import Task

#: What each playbook begins and ends with, whatever the tags.
AROUND = ("workfleet.core.validate", "workfleet.core.looked", "ansible.builtin.add_host", "ansible.builtin.validate_argument_spec")
#: Tags that mean something to Ansible, whatever a playbook has.
SPECIAL = {"all", "always", "never", "tagged", "untagged"}
#: How the tags end that molecule skips in every playbook, whether it has such tasks or not.
MOLECULE = "notest"


def problems(task_vars: Mapping[str, Any], loader: Any) -> list[str]:
    """Return a sentence for everything that was asked for and that Ansible passes over with a warning, or in silence."""
    hostvars = task_vars["hostvars"]
    found = [f"{source}: could not be read as a part of the inventory: Ansible's warnings above say why. What it declares is unknown, so "
             "nothing can be said of the fleet: mend it, or leave it out" for source in unread(hostvars._inventory)]
    only, skipped = (list(task_vars.get(name) or ()) for name in ("ansible_run_tags", "ansible_skip_tags"))
    skipped = [tag for tag in skipped if not tag.endswith(MOLECULE)]
    if (set(only) | set(skipped)) - {"all"}:
        found += untagged(only, skipped, list(tasks(hostvars._variable_manager, loader)), task_vars)
    return found


def unread(inventory: InventoryManager) -> list[str]:
    """Return the inventory's files that no plugin could read."""
    read = set(inventory._inventory.processed_sources)
    return [source for source in sources(inventory._sources) if source not in read]


def sources(given: Sequence[str]) -> Iterator[str]:
    """Yield every file of the inventory, as Ansible finds them below its directories."""
    for source in filter(None, given):
        path = source if "," in source else str(unfrackpath(source, follow=False))
        if os.path.isdir(path):
            yield from sources([os.path.join(path, os.fsdecode(name)) for name in sorted(os.listdir(os.fsencode(path)))
                                if not IGNORED.search(name)])
        elif path != "/etc/ansible/hosts" or os.path.exists(path):  # nobody has named that one
            yield path


def tasks(variables: Any, loader: Any) -> Iterator[Task]:
    """Yield the tasks of the playbooks of this run, but for those around all else, with the tags that they have from all around them."""
    for name in context.CLIARGS["args"]:
        resource = _get_collection_playbook_path(name)
        for play in Playbook.load(resource[1] if resource else name, variable_manager=variables, loader=loader).get_plays():
            for block in play.compile():
                yield from (task for task in block.get_tasks() if not task.implicit and task.resolved_action not in AROUND)


def untagged(only: Sequence[str], skipped: Sequence[str], tasks: Sequence[Task], task_vars: Mapping[str, Any]) -> list[str]:
    """Say which tags no task has, or that they leave no task."""
    known = {tag for task in tasks for tag in task.tags} - SPECIAL
    playbooks = " and ".join(map(os.path.basename, context.CLIARGS["args"]))
    has = f"{playbooks} has the tags {', '.join(sorted(known))}" if known else f"{playbooks} has no tags: leave it out"
    found = [f"{option} {tag}: {has}" for option, given in (("--tags", only), ("--skip-tags", skipped))
             for tag in given if tag not in known | SPECIAL]
    if not found and not any(task.evaluate_tags(only, skipped, task_vars) for task in tasks):
        found.append(f"--tags {','.join(only)} and --skip-tags {','.join(skipped)} leave nothing to do" if skipped
                     else f"--tags {','.join(only)} leaves nothing to do")
    return found
