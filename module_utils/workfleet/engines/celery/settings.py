"""Celery's own configuration without touching the app's code: ``settings`` become arguments behind ``--``.

``celery … worker … -- task_acks_late=(bool)true`` is undocumented, but there since Celery 4. The table is compared
with the installed Celery by a test. A command line is public on its host (``ps``), so what may be secret is refused.
"""

from __future__ import annotations

import difflib
import json
import re
from typing import TYPE_CHECKING, Any

from ..options import unknown

if TYPE_CHECKING:
    from collections.abc import Mapping

_BY_KIND = {
    "bool": """
        beat_enable_remote_control broker_channel_error_retry broker_connection_retry
        broker_connection_retry_on_startup control_queue_durable control_queue_exclusive
        database_create_tables_at_setup database_short_lived_sessions elasticsearch_retry_on_timeout
        elasticsearch_save_meta_as_text enable_utc event_queue_durable event_queue_exclusive
        redis_retry_on_timeout redis_socket_keepalive result_backend_always_retry result_extended
        result_persistent task_acks_late task_acks_on_failure task_acks_on_failure_or_timeout
        task_acks_on_timeout task_allow_error_cb_on_chord_header task_always_eager task_create_missing_queues
        task_eager_propagates task_ignore_result task_inherit_parent_priority task_publish_retry
        task_reject_on_worker_lost task_remote_tracebacks task_retry_on_worker_lost task_send_sent_event
        task_store_eager_result task_store_errors_even_if_ignored task_track_started
        worker_cancel_long_running_tasks_on_connection_loss worker_deduplicate_successful_tasks
        worker_detect_quorum_queues worker_direct worker_disable_prefetch worker_disable_rate_limits
        worker_enable_prefetch_count_reduction worker_enable_remote_control worker_enable_soft_shutdown_on_idle
        worker_hijack_root_logger worker_log_color worker_pool_putlocks worker_pool_restarts
        worker_redirect_stdouts worker_send_task_events
    """,
    "int": """
        azureblockblob_connection_timeout azureblockblob_read_timeout azureblockblob_retry_increment_base
        azureblockblob_retry_initial_backoff_sec azureblockblob_retry_max_attempts beat_cron_starting_deadline
        beat_sync_every broker_connection_max_retries broker_heartbeat broker_pool_limit broker_port
        cosmosdbsql_max_retry_attempts cosmosdbsql_max_retry_wait_time elasticsearch_max_retries redis_db
        redis_max_connections redis_port result_backend_base_sleep_between_retries_ms
        result_backend_max_sleep_between_retries_ms result_cache_max task_protocol task_queue_max_priority
        task_repr_maxlevels worker_eta_task_limit worker_max_memory_per_child worker_max_tasks_per_child
        worker_prefetch_multiplier
    """,
    "float": """
        beat_max_loop_interval beat_remote_control_max_tick_age broker_connection_timeout
        broker_heartbeat_checkrate broker_pool_acquire_timeout cassandra_entry_ttl control_queue_expires
        control_queue_ttl elasticsearch_timeout event_queue_expires event_queue_ttl gcs_ttl
        redis_socket_connect_timeout redis_socket_timeout result_backend_max_retries result_chord_expires
        result_chord_join_timeout result_chord_retry_interval result_expires result_failure_expires
        task_soft_time_limit task_time_limit worker_lost_wait worker_proc_alive_timeout
        worker_soft_shutdown_timeout worker_timer_precision
    """,
    "text": """
        azureblockblob_base_path azureblockblob_container_name beat_schedule_filename beat_scheduler
        broker_failover_strategy broker_host broker_login_method broker_native_delayed_delivery_queue_type
        broker_password broker_read_url broker_transport broker_url broker_user broker_vhost broker_write_url
        cache_backend cassandra_auth_kwargs cassandra_auth_provider cassandra_bundle_path cassandra_keyspace
        cassandra_port cassandra_read_consistency cassandra_table cassandra_write_consistency control_exchange
        cosmosdbsql_collection_name cosmosdbsql_consistency_level cosmosdbsql_database_name database_url
        event_exchange event_queue_prefix event_serializer gcs_base_path gcs_bucket gcs_project redis_host
        redis_password redis_username result_backend result_compression result_exchange result_exchange_type
        result_serializer s3_access_key_id s3_base_path s3_bucket s3_endpoint_url s3_region s3_secret_access_key
        security_cert_store security_certificate security_digest security_key security_key_password
        task_compression task_create_missing_queue_exchange_type task_create_missing_queue_type
        task_default_exchange task_default_exchange_type task_default_queue task_default_queue_type
        task_default_rate_limit task_default_routing_key task_serializer timezone worker_agent worker_autoscaler
        worker_consumer worker_log_datefmt worker_log_format worker_pool worker_pool_start_method
        worker_redirect_stdouts_level worker_state_db worker_task_log_datefmt worker_task_log_format
        worker_timer
    """,
    "list": "accept_content cassandra_servers imports include result_accept_content",
    "dict": """
        arangodb_backend_settings beat_schedule broker_transport_options cache_backend_options cassandra_options
        couchbase_backend_settings database_engine_options database_table_names database_table_schemas
        mongodb_backend_settings result_backend_transport_options task_publish_retry_policy
    """,
    # Celery types these loosely or too narrowly: a dict is as good as a flag, a number as good as a text.
    "any": """
        broker_use_ssl database_engine_callback redis_backend_use_ssl task_annotations
        task_default_delivery_mode task_default_priority task_queues task_routes worker_concurrency
    """,
}
SETTINGS: dict[str, str] = {name: kind for kind, names in _BY_KIND.items() for name in names.split()}

_NO_WAY = "Celery's command line cannot take a setting whose name has no underscore; set it in the app's code"
_TOO_LATE = "Celery reads this setting before the arguments behind --, so it would have no effect there; use"
REFUSED: dict[str, str] = {
    "include": f"{_TOO_LATE} options.include", "imports": f"{_TOO_LATE} options.include", "timezone": _NO_WAY,
    "worker_concurrency": f"{_TOO_LATE} the group's key concurrency",
    "worker_prefetch_multiplier": f"{_TOO_LATE} options.prefetch_multiplier",
    "worker_pool": f"{_TOO_LATE} options.pool", "worker_state_db": f"{_TOO_LATE} options.statedb",
    "beat_scheduler": f"{_TOO_LATE} options.scheduler of worker_scheduler",
    "beat_schedule_filename": f"{_TOO_LATE} schedule_directory of worker_scheduler",
}
_PUBLIC = "a command line can be read by every user of the host"
_URLS = {
    "broker_url": "app_broker_url", "broker_read_url": "app_secrets: CELERY_BROKER_READ_URL",
    "broker_write_url": "app_secrets: CELERY_BROKER_WRITE_URL", "result_backend": "app_result_url",
    "cache_backend": "app_result_url", "database_url": "app_result_url",
}
_SECRET = re.compile(r"passw|passphrase|secret|token|credential|(access|api|private)_key|auth_kwargs", re.IGNORECASE)
_USERINFO = re.compile(r"[a-z][a-z0-9+.-]*://[^/\s@]*@", re.IGNORECASE)
_TYPES: dict[str, tuple[type, ...]] = {
    "bool": (bool,), "int": (int,), "float": (int, float), "text": (str,), "list": (list, tuple), "dict": (dict,),
    "any": (bool, int, float, str, list, tuple, dict),
}
_WORDS = {
    "bool": "true or false", "int": "a whole number", "float": "a number", "text": "a text", "list": "a list",
    "dict": "a dictionary", "any": "a plain value",
}


def check(settings: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with a group's ``settings``, one sentence each; no value is ever shown."""
    return [problem for name, value in settings.items() for problem in _problems(name, value)]


def _problems(name: str, value: Any) -> list[str]:
    if name in _URLS or _secret(name, value):
        return [f"settings.{name}: refused: it may hold a secret, and {_PUBLIC}; use {_URLS.get(name, 'app_secrets')}"]
    if name in REFUSED:
        return [f"settings.{name}: refused: {REFUSED[name]}"]
    kind = SETTINGS.get(name) or _foreign(name)
    if kind is None:
        return [unknown("settings", name, SETTINGS)]
    right = isinstance(value, _TYPES[kind]) and (kind in ("bool", "any") or not isinstance(value, bool))
    if value is not None and not right:
        return [f"settings.{name}: must be {_WORDS[kind]}, given is a {type(value).__name__}"]
    return []


def _foreign(name: str) -> str | None:
    """``any`` for a setting of an extension (``redbeat_lock_timeout``), ``None`` for what looks like a slip."""
    own = name.partition("_")[0] in {known.partition("_")[0] for known in SETTINGS}
    shaped = re.fullmatch(r"[a-z][a-z0-9]*_[a-z0-9_]+", name)
    return None if own or not shaped or difflib.get_close_matches(name, SETTINGS, n=1, cutoff=0.85) else "any"


def _secret(name: str, value: Any) -> bool:
    """Whether a name anywhere in the value, or a URL with a user in it, says that this is a secret."""
    if isinstance(value, dict):
        return bool(_SECRET.search(name)) or any(_secret(str(key), item) for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return any(_secret(name, item) for item in value)
    return bool(_SECRET.search(name)) or (isinstance(value, str) and bool(_USERINFO.search(value)))


def render(settings: Mapping[str, Any]) -> list[str]:
    """Return the arguments behind ``--`` for checked ``settings``.

    Each carries its type in front of its value, so that a text that looks like something else stays a text.
    """
    return [f"{name}={_typed(SETTINGS.get(name, 'any'), value)}" for name, value in sorted(settings.items())]


def _typed(kind: str, value: Any) -> str:
    if isinstance(value, str):
        return f"(string){value}"
    if isinstance(value, (int, float)) and not isinstance(value, bool) and kind == "float":
        return f"(float){value}"
    # `dict` is a word for JSON here: true, numbers, null and lists come out of it as themselves.
    return f"(dict){json.dumps(value, ensure_ascii=False)}"
