"""The declaration of a PostgreSQL, and what is planned for it."""

from __future__ import annotations

from typing import Any

import pytest

from plugins.module_utils.workfleet.errors import WorkfleetError
from plugins.module_utils.workfleet.host import effects
from plugins.module_utils.workfleet.postgresql import config as postgresql_config
from plugins.module_utils.workfleet.postgresql import server as postgresql_server
from plugins.module_utils.workfleet.postgresql.server import Cluster

SECRET = "pa ss$w'0rd\\"
SHOP: dict[str, Any] = {
    "postgresql_listen": ["127.0.0.1", "192.0.2.5"],
    "postgresql_users": [{"name": "shop", "password": SECRET, "networks": ["192.0.2.0/24", "2001:db8::/32"]}],
    "postgresql_databases": [{"name": "shop"}, {"name": "audit", "owner": "shop"}],
    "postgresql_settings": {"max_connections": 400, "log_connections": True, "search_path": "it's \\here"},
}
#: Made by PostgreSQL 15 for the password "pencil".
KEPT = ("SCRAM-SHA-256$4096:vqNRdJbBMQVPDrICOwSuBw==$8+WGUNaxhHw+GWa6ACOFiQyuQ6N2fZWwsfh2mVxfiHQ="
        ":ZOpUA9fvDuLRWU7LD6UCndZC/F9FIwP06heiY7e5egw=")


def test_defaults_are_sound() -> None:
    assert postgresql_config.check({}) == []
    assert postgresql_config.lines(postgresql_config.parse({})) == {"listen_addresses": "127.0.0.1"}


@pytest.mark.parametrize(("variable", "value", "said"), [
    ("postgresql_users", [{"name": "postgres", "password": "x"}], "server's own account"),
    ("postgresql_users", [{"name": "Shop", "password": "x"}], "name: is required"),
    ("postgresql_users", [{"name": "shop"}], "password: is required"),
    ("postgresql_users", [{"name": "shop", "password": "grün"}], "printable ASCII"),
    ("postgresql_users", [{"name": "shop", "password": "x", "network": []}], "did you mean networks?"),
    ("postgresql_users", [{"name": "shop", "password": "x", "networks": ["192.0.2.1/24"]}], "given '192.0.2.1/24'"),
    ("postgresql_users", [{"name": "shop", "password": "x", "networks": ["192.0.2.0/24"]}], "loopback addresses only"),
    ("postgresql_users", [{"name": "shop", "password": "x", "databases": ["nowhere"]}], "not in postgresql_databases"),
    ("postgresql_users", [{"name": "a", "password": "x"}, {"name": "a", "password": "x"}], "used twice"),
    ("postgresql_users", {}, "must be a list"),
    ("postgresql_databases", [{"name": "shop"}], "owner: shop is not in postgresql_users"),
    ("postgresql_databases", ["shop"], "must be a mapping"),
    ("postgresql_listen", ["example.org"], "given 'example.org'"),
    ("postgresql_settings", {"listen_addresses": "*"}, "use postgresql_listen"),
    ("postgresql_settings", {"Hba_File": "/x"}, "Debian's cluster decides it"),
    ("postgresql_settings", {"work_mem": "1MB\nport = 1"}, "one line"),
    ("postgresql_settings", {"work mem": 1}, "no name of a setting"),
])
def test_a_mistake_is_named(variable: str, value: Any, said: str) -> None:
    found = postgresql_config.check({variable: value})
    assert any(said in text and variable in text for text in found), found


def test_no_message_shows_a_password() -> None:
    broken = {"postgresql_users": [{"name": "Shop", "password": SECRET}, {"name": "a", "password": "grün geheim"}]}
    assert not [text for text in postgresql_config.check(broken) if "geheim" in text or SECRET in text]
    assert SECRET not in repr(postgresql_config.parse(SHOP))


def test_the_file_is_read_as_it_was_written() -> None:
    declared = postgresql_config.parse(SHOP)
    text = postgresql_config.conf("shop", declared)
    assert postgresql_config.read(text) == postgresql_config.lines(declared)
    assert postgresql_config.owner(text) == "shop"
    assert "search_path = 'it''s \\\\here'" in text


def test_lines_for_networks_stand_before_all_others_and_go_with_their_user() -> None:
    others = "# as Debian has it\nlocal all postgres peer\nhost all all 0.0.0.0/0 reject\n"
    text = postgresql_config.hba(others, postgresql_config.parse(SHOP))
    assert text.splitlines()[1] == 'host "shop" "shop" 192.0.2.0/24 scram-sha-256'
    assert 'host "audit" "shop" 2001:db8::/32 scram-sha-256' in text
    assert text.endswith(others)
    assert postgresql_config.hba(text, postgresql_config.parse(SHOP)) == text
    assert postgresql_config.hba(text, postgresql_config.parse({})) == others


def test_a_verifier_is_that_of_the_server() -> None:
    assert postgresql_config.matches("pencil", KEPT)
    assert not postgresql_config.matches("pencils", KEPT)
    assert postgresql_config.matches(SECRET, postgresql_config.verifier(SECRET))
    assert not [kept for kept in (None, "", "md5abc", "SCRAM-SHA-256$x") if postgresql_config.matches("pencil", kept)]


class Server:
    """What a server would tell of itself."""

    def __init__(self, **settings: tuple[str, str, bool]) -> None:
        self.seen: dict[str, Any] = {
            "version": "15.14", "loaded": 2e9, "databases": {"shop": "shop", "audit": "shop"},
            "roles": {"shop": {"login": True, "kept": postgresql_config.verifier(SECRET)}},
            "settings": {name: {"context": context, "setting": value, "shown": value, "pending": pending}
                         for name, (context, value, pending) in settings.items()},
        }


@pytest.fixture
def files(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The files of a host that is as declared."""
    declared = postgresql_config.parse(SHOP)
    cluster = Cluster("15")
    there = {cluster.conf: postgresql_config.conf("shop", declared), cluster.hba: postgresql_config.hba("", declared)}
    monkeypatch.setattr(effects, "read", there.get)
    monkeypatch.setattr(postgresql_server, "refuse_settings", lambda *_: None)
    return there


def planned(seen: dict[str, Any] | None, installed: bool = True, **changed: Any) -> list[tuple[str, str | None]]:
    declared = postgresql_config.parse({**SHOP, **changed})
    made = postgresql_server.plan(declared, "shop", Cluster("15"), installed, seen)
    return [(step.action, step.unit) for step in made.steps]


def test_what_is_as_declared_is_left_alone(files: dict[str, str]) -> None:
    assert planned(Server(max_connections=("postmaster", "400", False)).seen) == []


def test_a_setting_that_lives_is_reloaded(files: dict[str, str]) -> None:
    seen = Server(max_connections=("postmaster", "400", False), work_mem=("user", "4096", False)).seen
    settings = {**SHOP["postgresql_settings"], "work_mem": "8MB"}
    assert [action for action, _ in planned(seen, postgresql_settings=settings)] == ["write", "reload"]


def test_a_setting_that_does_not_live_is_a_restart(files: dict[str, str]) -> None:
    seen = Server(max_connections=("postmaster", "400", False)).seen
    settings = {**SHOP["postgresql_settings"], "max_connections": 300}
    assert [action for action, _ in planned(seen, postgresql_settings=settings)] == ["write", "restart"]


def test_a_run_that_was_killed_before_its_restart_is_finished(files: dict[str, str]) -> None:
    assert [action for action, _ in planned(Server(max_connections=("postmaster", "100", True)).seen)] == ["restart"]


def test_a_password_is_set_only_where_it_differs(files: dict[str, str]) -> None:
    users = [{**SHOP["postgresql_users"][0], "password": "another"}]
    assert planned(Server().seen, postgresql_users=users) == [("live", "role shop")]


def test_what_is_sent_holds_no_password(files: dict[str, str]) -> None:
    declared = postgresql_config.parse(SHOP)
    made = postgresql_server.plan(declared, "shop", Cluster("15"), True, {**Server().seen, "roles": {}, "databases": {}})
    assert [sql.split(" ")[:3] for sql in made.sql] == [["CREATE", "ROLE", '"shop"'], ["CREATE", "DATABASE", '"shop"'],
                                                        ["CREATE", "DATABASE", '"audit"']]
    assert not [sql for sql in made.sql if SECRET in sql]


def test_a_bare_host_gets_all_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(effects, "read", lambda path: None)
    cluster = Cluster("15")
    assert planned(None, installed=False) == [
        ("write", "package postgresql"), ("write", cluster.conf), ("write", cluster.hba), ("start", cluster.unit),
        ("live", "role shop"), ("live", "database shop"), ("live", "database audit")]


def test_another_apps_server_is_refused(files: dict[str, str]) -> None:
    with pytest.raises(WorkfleetError, match="belongs to app shop, not to other"):
        postgresql_server.plan(postgresql_config.parse(SHOP), "other", Cluster("15"), True, Server().seen)


def test_another_users_database_is_left_alone(files: dict[str, str]) -> None:
    with pytest.raises(WorkfleetError, match="shop is there and belongs to somebody"):
        planned({**Server().seen, "databases": {"shop": "somebody"}})


@pytest.mark.parametrize(("installed", "changes"), [
    (False, {}),
    (True, {}),
    (True, {"postgresql_settings": {"max_connections": 300}}),
    (True, {"postgresql_settings": {**SHOP["postgresql_settings"], "work_mem": "8MB"}}),
    (True, {"postgresql_users": [{**SHOP["postgresql_users"][0], "password": "another"}]}),
    (True, {"postgresql_databases": [*SHOP["postgresql_databases"], {"name": "more", "owner": "shop"}]}),
], ids=["bare", "as it is", "restart", "reload", "password", "database"])
def test_what_a_check_foretells_is_what_is_done(
    files: dict[str, str], monkeypatch: pytest.MonkeyPatch, installed: bool, changes: dict[str, Any],
) -> None:
    if not installed:
        files.clear()
    seen = Server(max_connections=("postmaster", "400", False), work_mem=("user", "4096", False)).seen
    done: list[str] = []
    monkeypatch.setattr(postgresql_server, "find", lambda: (Cluster("15", online=installed), installed))
    monkeypatch.setattr(postgresql_server, "look", lambda _: seen)
    for name in ("install", "put", "control", "psql"):
        monkeypatch.setattr(postgresql_server, name, lambda *_, name=name: done.append(name))
    predicted, _ = postgresql_server.run({**SHOP, **changes}, "shop", check_mode=True)
    assert done == [], "a check changes nothing"
    made, _ = postgresql_server.run({**SHOP, **changes}, "shop", check_mode=False)
    assert (made.steps, made.diff) == (predicted.steps, predicted.diff)
    assert bool(done) == bool(made.steps) == (not installed or bool(changes))
