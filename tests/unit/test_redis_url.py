"""Redis URLs: what they say, what is refused, and that everybody reads the same in them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugins.module_utils.workfleet import redis_url, resp
from plugins.module_utils.workfleet.errors import WorkfleetError
from plugins.module_utils.workfleet.redis_url import Address, Tls
from plugins.module_utils.workfleet.spec import checker
from plugins.module_utils.workfleet.spec import workers as spec
from runners import workfleet_health

ADDRESSES = [
    ("redis://", Address()),
    ("redis://h", Address("h")),
    ("redis://h:7000/3", Address("h", 7000, 3)),
    ("redis://:p%40%2F%23%20s@h:1/", Address("h", 1, password="p@/# s")),
    ("redis://:p@ss@h/2", Address("h", db=2, password="p@ss")),
    ("redis://u%3Aser:pw@h", Address("h", username="u:ser", password="pw")),
    ("redis://ann:p:w@h", Address("h", username="ann", password="p:w")),
    ("redis://[::1]:7000/1", Address("::1", 7000, 1)),
    ("rediss://h", Address("h", tls=Tls())),
    ("rediss://h?ssl_cert_reqs=CERT_NONE", Address("h", tls=Tls("none", check_hostname=False))),
    (
        "rediss://h?ssl_cert_reqs=required&ssl_ca_certs=%2Fetc%2Fca.pem&ssl_check_hostname=false",
        Address("h", tls=Tls("required", check_hostname=False, ca_certs="/etc/ca.pem")),
    ),
    ("unix:///run/r.sock?db=2", Address(path="/run/r.sock", db=2)),
    ("unix://:p%2Fw@/run/r.sock", Address(path="/run/r.sock", password="p/w")),
    ("redis+socket:///run/r.sock?virtual_host=5", Address(path="/run/r.sock", db=5)),
    ("socket://:pw@/run/r.sock", Address(path="/run/r.sock", password="pw")),
    ("redis+socket://%2Frun%2Fr.sock", Address(path="/run/r.sock")),
]
WRONG = [
    ("sentinel://:hunter2@h:26379", "redis:// URL of the primary"),
    ("sentinel://:hunter2@h:26379;sentinel://:hunter2@i:26379", "redis:// URL of the primary"),
    ("amqp://u:hunter2@h", "given is amqp://, and queues, workers and tasks are looked at over Redis alone"),
    ("hunter2", "not a Redis URL: given is no scheme"),
    ("redis://:hunter2/x@h:6379", "must be %-encoded"),
    ("redis://:p@ss/hunter2#rd@192.0.2.31:6379/0", "must be %-encoded"),
    ("redis://:ab/hunter2+ef==@192.0.2.31:6379/0", "must be %-encoded"),
    ("redis://:1/hunter2@h:6379", "must be %-encoded"),
    ("redis://:1#hunter2@h:6379/0", "must be %-encoded"),
    ("redis://:1?hunter2@h:6379/0", "must be %-encoded"),
    ("redis://:100%hunter2@h:6379/0", "must be %-encoded"),
    ("redis://:hunter2 x@h:6379/0", "must be %-encoded"),
    ("redis://:hunter2@h:0", "must be %-encoded"),
    ("redis://:hunter2@::1:6379/0", "no valid host or port"),
    ("redis://:hunter2@h/celery", "database is not a number"),
    ("redis://:hunter2@h/999999999999", "database is not a number"),
    ("redis://h/?db=4", "with which kombu does not start"),
    ("redis://h/0?password=hunter2", "not every client looks"),
    ("redis://:hunter2@h?ssl_cert_reqs=none", "begin it with rediss://"),
    ("redis://:hunter2@h:1/0;redis://h2", "several addresses"),
    ("redis://:hunter2@h:1/0;redis://:hunter2@h2:1/0", "several addresses"),
    ("rediss://:hunter2@h?ssl_cert_reqs=maybe", "allowed are none, optional, required"),
    ("unix://:hunter2@", "absolute path"),
]


@pytest.mark.parametrize(("url", "address"), ADDRESSES)
def test_a_url_says_the_same_to_modules_and_to_the_health_program(url: str, address: Address) -> None:
    assert redis_url.parse(url) == resp.parse_url(url) == address
    assert redis_url.is_redis(url)
    told = workfleet_health.address_of(url)
    names = ("db", "path", "username", "password") if address.path else ("host", "port", "db", "path", "username", "password")
    assert {name: told[name] for name in names} == {name: getattr(address, name) for name in names}
    assert (told["query"] is not None) == (address.tls is not None)


@pytest.mark.parametrize(("url", "address"), [each for each in ADDRESSES if each[0].startswith("redis://") and "p:w" not in each[0]])
def test_the_libraries_of_workers_read_it_so_too(url: str, address: Address) -> None:
    kombu = pytest.importorskip("kombu").Connection(url)
    redis = pytest.importorskip("redis").Redis.from_url(url).connection_pool.connection_kwargs
    assert (kombu.hostname or "localhost", int(kombu.virtual_host.strip("/") or 0)) == (address.host, address.db)
    assert (kombu.userid or None, kombu.password or None) == (address.username, address.password)
    assert redis.get("host", "localhost") == address.host
    assert (redis.get("username"), redis.get("password"), redis.get("db", 0)) == (address.username, address.password, address.db)


@pytest.mark.parametrize(("url", "says"), WRONG)
def test_a_wrong_url_is_explained_without_its_password(url: str, says: str) -> None:
    with pytest.raises(WorkfleetError) as caught:
        resp.parse_url(url)
    assert says in str(caught.value)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("key", ["broker_url", "result_url"])
@pytest.mark.parametrize("url", [url for url, _ in WRONG if "://" in url and " " not in url and not url.startswith("amqp")])
def test_a_url_that_is_wrong_by_its_letters_is_refused_where_it_is_declared(url: str, key: str) -> None:
    """It was found in the middle of a rollout, behind a change of the live server's password."""
    with pytest.raises(checker.SpecError) as caught:
        spec.parse({"host": "h", "app": {"name": "shop", key: url}, "groups": [{"name": "a", "app": "a.b"}]})
    assert [text.partition(":")[0] for text in caught.value.problems] == [f"app_{key}"]
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("engine", "app", "refused"),
    [
        ("celery", {"broker_url": "unix:///run/r.sock"}, "app_broker_url: is a unix:// URL, which engine celery does not read"),
        ("arq", {"broker_url": "redis+socket:///run/r.sock"}, "app_broker_url: is a redis+socket:// URL, which engine arq does not read"),
        ("celery", {"broker_url": "amqp://u:hunter2@h/shop"}, "app_broker_url: is amqp:// and no Redis"),
        ("celery", {"broker_url": "rediss://:hunter2@h"}, "app_broker_url: by a rediss:// URL that does not say"),
        ("celery", {"broker_url": "rediss://:hunter2@h?ssl_cert_reqs=required"}, ""),
        ("arq", {"broker_url": "rediss://:hunter2@h"}, ""),
        ("celery", {"result_url": "rediss://:hunter2@h"}, "app_result_url: celery's result store starts with"),
        ("celery", {"broker_url": "redis+socket:///run/r.sock", "result_url": "db+postgresql://u:hunter2@h/shop"}, ""),
        ("arq", {"broker_url": "unix:///run/r.sock"}, ""),
        ("process", {"broker_url": "amqp://u:hunter2@h/shop"}, ""),
    ],
)
def test_a_url_that_the_engine_does_not_read_is_refused(engine: str, app: dict[str, str], refused: str) -> None:
    group = {"name": "a", "engine": engine, **({"command": ["sleep", "1"]} if engine == "process" else {"app": "a.b"})}
    raw = {"host": "h", "app": {"name": "shop", **app}, "groups": [group]}
    if not refused:
        spec.parse(raw)
        return
    with pytest.raises(checker.SpecError) as caught:
        spec.parse(raw)
    (problem,) = caught.value.problems
    assert problem.startswith(refused)
    assert "hunter2" not in problem


@pytest.mark.parametrize("option", ["ssl_cert_reqs=none", "ssl_cert_reqs=optional", "ssl_cert_reqs=required&ssl_check_hostname=false"])
def test_a_server_that_need_not_prove_itself_is_warned_of(option: str) -> None:
    def warned(url: str) -> list[str]:
        app = {"name": "shop", "broker_url": url}
        found = spec.parse({"host": "h", "app": app, "groups": [{"name": "a", "app": "a.b"}]}).warnings
        return [text for text in found if text.startswith("app_broker_url: ")]

    (warning,) = warned(f"rediss://:hunter2@h?{option}")
    assert warning.startswith(f"app_broker_url: has {option.rpartition('&')[2]}, by which whoever stands between")
    assert "hunter2" not in warning
    assert not warned("rediss://:hunter2@h?ssl_cert_reqs=required")


def test_neither_text_nor_repr_of_an_address_shows_the_password() -> None:
    address = redis_url.parse("rediss://me:hunter2@h:7000/3")
    assert str(address) == "rediss://h:7000/3"
    assert "hunter2" not in repr(address)


@given(
    password=st.text(st.characters(exclude_categories=["Cs"])), user=st.text(st.characters(exclude_categories=["Cs"])),
    database=st.integers(0, 9999), port=st.integers(1, 65535), host=st.sampled_from(["h.example", "192.0.2.1", "::1", "[2001:db8::1]"]),
)
def test_what_is_built_is_read_back_whatever_is_in_it(password: str, user: str, database: int, port: int, host: str) -> None:
    address = redis_url.parse(redis_url.build(host, password, database, user=user, port=port))
    assert address == Address(host.strip("[]"), port, database, username=user or None, password=password or None)


@pytest.mark.parametrize("scheme", redis_url.SOCKETS)
def test_the_url_of_a_socket_is_built_as_its_clients_write_it(scheme: str) -> None:
    url = redis_url.build("/run/my redis/r.sock", "p/w", 3, scheme=scheme)
    assert redis_url.parse(url) == Address(path="/run/my redis/r.sock", db=3, password="p/w")


def test_what_no_url_can_hold_is_not_built() -> None:
    wrong = ({"database": -1}, {"port": 0}, {"scheme": "amqp"}, {"password": "\ud800"})
    for host, more in (("", {}), ("h/x", {}), *(("h", each) for each in wrong)):
        with pytest.raises(ValueError, match=r"URL|host|scheme|password|surrogates"):
            redis_url.build(host, **more)
