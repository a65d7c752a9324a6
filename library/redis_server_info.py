#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Read the state of a Redis."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: redis_server_info
short_description: Read the state of a Redis
version_added: "0.1.0"
author: Workfleet contributors (!UNKNOWN)
description:
  - Asks one server for its version, memory, persistence, clients and keys.
  - An unknown figure is null and never 0.
options:
  url:
    description: The URL of the server, in the form of a Celery broker URL. Its password is never shown.
    type: str
    default: redis://127.0.0.1:6379/0
  timeout:
    description: The time in seconds to wait for the connection and for each answer.
    type: float
    default: 5.0
extends_documentation_fragment:
  - workfleet.core.payload
  - workfleet.core.attributes
"""

EXAMPLES = r"""
- name: Read the state of the broker
  workfleet.core.redis_server_info:
    url: "{{ 'redis1' | workfleet.core.redis_url(vault_redis_password) }}"
  register: broker
"""

RETURN = r"""
redis:
  description: The state of the server.
  returned: success
  type: dict
  contains:
    address:
      description: The address without user and password.
      type: str
    flavor:
      description: C(redis) or C(valkey).
      type: str
    version:
      description: The version of the server.
      type: str
    role:
      description: C(master) or C(slave).
      type: str
    uptime_seconds:
      description: The time since the start of the server.
      type: int
    used_memory_bytes:
      description: The memory of the data.
      type: int
    maxmemory_bytes:
      description: The memory limit, 0 for none.
      type: int
    maxmemory_policy:
      description: The eviction policy of a full memory.
      type: str
    evicted_keys:
      description: The number of keys that were evicted since the start. On a broker these are lost tasks.
      type: int
    appendonly:
      description: Whether the server keeps an append-only file.
      type: bool
    persistence:
      description: C(ok), or the fault of the last snapshot or of the last write of the append-only file.
      type: str
    loading:
      description: Whether the server still loads its data.
      type: bool
    connected_clients:
      description: The number of connections.
      type: int
    keys:
      description: The number of keys by database.
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

from ..module_utils.workfleet import payload
from ..module_utils.workfleet.arguments.redis_server_info import ARGUMENTS
from ..module_utils.workfleet.errors import WorkfleetError
from ..module_utils.workfleet.redis import info as redis_info


def main() -> None:
    """Parse, observe, report."""
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    try:
        given = payload.unpack(module.params["payload"], "redis_server_info")
        found = redis_info.look(given["url"], given["timeout"])
    except WorkfleetError as error:
        module.fail_json(msg=str(error), **error.details)
    module.exit_json(changed=False, redis=found)


if __name__ == "__main__":
    main()
