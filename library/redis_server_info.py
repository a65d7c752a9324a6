#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Tell what a Redis is and how it fares."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: redis_server_info
short_description: Tell what a Redis is and how it fares
version_added: "0.1.0"
author: Workfleet contributors
description:
  - Asks one server for its version, memory, persistence, clients and keys. Changes nothing.
  - A figure that the server does not tell is null, never 0.
options:
  url:
    description: Where the server is, as a Celery broker URL. Its password is never shown.
    type: str
    default: redis://127.0.0.1:6379/0
  timeout:
    description: Seconds to wait for the connection and for each answer.
    type: float
    default: 5.0
  payload:
    description: Set by the action plugin. One opaque text, so that nothing of it is written to a journal.
    type: str
attributes:
  check_mode:
    support: full
    description: Changes nothing in any mode.
"""

EXAMPLES = r"""
- name: Look at the broker
  workfleet.core.redis_server_info:
    url: "{{ 'redis1' | workfleet.core.redis_url(vault_redis_password) }}"
  register: broker
"""

RETURN = r"""
redis:
  description: What the server tells.
  returned: success
  type: dict
  contains:
    address:
      description: Where it is, without user and password.
      type: str
    flavor:
      description: C(redis) or C(valkey).
      type: str
    version:
      description: Its own version.
      type: str
    role:
      description: C(master) or C(slave).
      type: str
    uptime_seconds:
      description: Since it was started.
      type: int
    used_memory_bytes:
      description: Memory its data take.
      type: int
    maxmemory_bytes:
      description: Its memory limit, 0 for none.
      type: int
    maxmemory_policy:
      description: What it does when memory is full.
      type: str
    evicted_keys:
      description: Keys it threw away for want of memory since its start. On a broker these are lost tasks.
      type: int
    appendonly:
      description: Whether it keeps an append-only file.
      type: bool
    persistence:
      description: C(ok), or what is wrong with the last snapshot or write of the append-only file.
      type: str
    loading:
      description: Whether it still loads its data.
      type: bool
    connected_clients:
      description: Connections.
      type: int
    keys:
      description: Number of keys by database.
      type: dict
  sample:
    address: redis://127.0.0.1:6379/0
    flavor: redis
    version: 7.0.15
    role: master
    uptime_seconds: 86400
    used_memory_bytes: 1048576
    maxmemory_bytes: 0
    maxmemory_policy: noeviction
    evicted_keys: 0
    appendonly: true
    persistence: ok
    loading: false
    connected_clients: 4
    keys: {"0": 12}
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.workfleet import payload, redis_info
from ..module_utils.workfleet.errors import WorkfleetError


def main() -> None:
    """Parse, observe, report."""
    module = AnsibleModule(argument_spec=payload.ARGUMENTS, supports_check_mode=True)
    try:
        given = payload.unpack(module.params["payload"], "redis_server_info")
        found = redis_info.look(given["url"], given["timeout"])
    except WorkfleetError as error:
        module.fail_json(msg=str(error), **error.details)
    module.exit_json(changed=False, redis=found)


if __name__ == "__main__":
    main()
