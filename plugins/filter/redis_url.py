"""The filter redis_url: a Redis URL in which everything is encoded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ansible.errors import AnsibleFilterError
from ansible_collections.workfleet.core.plugins.module_utils.workfleet import redis_url

if TYPE_CHECKING:
    from collections.abc import Callable

DOCUMENTATION = r"""
name: redis_url
short_description: Build the URL of a Redis
version_added: "0.1.0"
author: Workfleet contributors
description:
  - Builds a URL as C(app_broker_url), C(app_result_url) and our modules take it, with the password and all else that is in it encoded.
  - Whatever the password is, each client reads it back as it was. C(urlencode) leaves V(/) as it is, and no client reads that.
positional: password, database
options:
  _input:
    description: Name or address of the host, or the absolute path of a socket where the O(scheme) is of one.
    type: str
    required: true
  password:
    description: The password. Empty is none.
    type: str
    default: ""
  database:
    description: The number of the database.
    type: int
    default: 0
  port:
    description: The port.
    type: int
    default: 6379
  user:
    description: The user. Empty is Redis' own C(default).
    type: str
    default: ""
  scheme:
    description: V(rediss) is TLS. V(unix) is a socket as arq and Chicory write it, V(redis+socket) as Celery does.
    type: str
    choices: [redis, rediss, unix, redis+socket, socket]
    default: redis
  options:
    description: Options of the URL, such as C(ssl_cert_reqs).
    type: dict
    default: {}
"""

EXAMPLES = r"""
# redis://:p%40ss%2Fw%23rd@redis1:6379/0
simple_url: "{{ 'redis1' | workfleet.core.redis_url('p@ss/w#rd') }}"

# The server of the inventory group redis, database 1.
app_result_url: "{{ hostvars[groups.redis[0]].ansible_host | workfleet.core.redis_url(vault_redis_password, 1) }}"

# TLS
tls_url: "{{ 'redis1' | workfleet.core.redis_url(vault_redis_password, scheme='rediss', options={'ssl_cert_reqs': 'required'}) }}"
"""

RETURN = r"""
_value:
  description: The URL. It holds the password.
  type: str
"""


def build(
    host: Any, password: Any = "", database: Any = 0, *, port: Any = redis_url.DEFAULT_PORT, user: Any = "", scheme: str = "redis",
    options: dict[str, Any] | None = None,
) -> str:
    """Return the URL; what cannot be in one is told without the password."""
    for name, value in (("host", host), ("password", password), ("user", user)):
        if not isinstance(value, str):
            raise AnsibleFilterError(f"redis_url: {name} must be a text, and is a {type(value).__name__}; quote it in YAML")
    try:
        numbers = {"database": int(database), "port": int(port)}
    except (TypeError, ValueError):
        raise AnsibleFilterError("redis_url: database and port must be numbers") from None
    try:
        return redis_url.build(str(host), str(password), user=str(user), scheme=scheme, options=options, **numbers)
    except ValueError as error:
        raise AnsibleFilterError(f"redis_url: {error}") from None


class FilterModule:
    """Our filters, by their names."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return them."""
        return {"redis_url": build}
