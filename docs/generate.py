"""Write docs/reference/ from what the code itself says, and the list of decisions: ``python docs/generate.py``.

Roles tell by their argument specs, modules by their DOCUMENTATION, engines by their tables of options. A test
compares the pages with what this would write.
"""

from __future__ import annotations

import ast
import re
import shutil
import sys
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from docs import limits  # noqa: E402 - found by the line above
from plugins.module_utils.workfleet import engines  # noqa: E402 - found by the line above
from plugins.module_utils.workfleet.host.system import SYSTEMS  # noqa: E402 - found by the line above
from plugins.module_utils.workfleet.redis.config import unavailable  # noqa: E402 - found by the line above

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from plugins.module_utils.workfleet.engines.base import Reference

DOCS = ROOT / "docs"
REFERENCE = DOCS / "reference"
HEAD = "<!-- Written by docs/generate.py; changes belong where it takes them from. -->\n"
#: What an action plugin gives to its module, and no task does.
HANDED_OVER = ("payload", "archive")
MARKUP = re.compile(r"\b(?:RV|[CVOMIB])\(([^()]*(?:\([^()]*\)[^()]*)*)\)")


def pages() -> dict[str, str]:
    """Return every page by its path below docs."""
    roles = {path.name: load(path / "meta" / "argument_specs.yml")["argument_specs"]["main"]
             for path in sorted((ROOT / "roles").iterdir())}
    modules = {path.stem: documentation(path) for path in sorted((ROOT / "library").glob("*.py"))}
    filters = {path.stem: documentation(path) for path in sorted((ROOT / "plugins" / "filter").glob("*.py"))}
    found = {f"reference/role-{name}.md": role_page(name, spec) for name, spec in roles.items()}
    found |= {f"reference/module-{name}.md": module_page(name, texts) for name, texts in modules.items()}
    found |= {f"reference/filter-{name}.md": module_page(name, texts, "Filter") for name, texts in filters.items()}
    found |= {f"reference/{engine}-options.md": engine_page(engine, told) for engine, told in referenced().items()}
    found |= {f"../roles/{name}/README.md": role_readme(name, spec) for name, spec in roles.items()}
    found["reference/README.md"] = index(roles, modules, filters)
    found["decisions/README.md"] = decisions()
    found["limits.md"] = limits.page()
    found["reference/systems.md"] = systems()
    return {name: f"{HEAD}\n{text.rstrip()}\n" for name, text in found.items()}


def index(roles: Mapping[str, Any], modules: Mapping[str, Any], filters: Mapping[str, Any]) -> str:
    """Return the page that leads to the others."""
    lines = ["# Reference", "", "[Which systems hosts may have](systems.md)", "", "| role | |", "|---|---|"]
    lines += [f"| [{name}](role-{name}.md) | {text(spec['short_description'])} |" for name, spec in roles.items()]
    lines += ["", "| module | |", "|---|---|"]
    lines += [f"| [{name}](module-{name}.md) | {text(texts['DOCUMENTATION']['short_description'])} |"
              for name, texts in modules.items()]
    lines += ["", "| filter | |", "|---|---|"]
    lines += [f"| [{name}](filter-{name}.md) | {text(texts['DOCUMENTATION']['short_description'])} |" for name, texts in filters.items()]
    lines += ["", "| engine | |", "|---|---|"]
    lines += [f"| [{engine}]({engine}-options.md) | {told.title} |" for engine, told in referenced().items()]
    return "\n".join(lines)


def decisions() -> str:
    """Return the list of decisions, by the titles of their pages."""
    lines = ["# Decisions", "", "What was settled, each with the question and the facts it was settled by.", ""]
    for path in sorted((DOCS / "decisions").glob("[0-9]*.md")):
        title = path.read_text(encoding="utf-8").partition("\n")[0].lstrip("# ")
        lines.append(f"- [{title}]({path.name})")
    return "\n".join(lines)


def systems() -> str:
    """Return the page on the systems of hosts."""
    lines = [
        "# Systems", "",
        "As root Workfleet manages hosts of these systems, and refuses others in a sentence: in `validate`, where facts are kept,",
        "else before the host is changed. Without root's rights, with `app_user` as the account that logs in, any Linux with",
        "Python 3.9 does.", "",
        "| system | Python | `redis_flavor: redis` | `redis_flavor: valkey` | PostgreSQL | proved |", "|---|---|---|---|---|---|"]
    for known in SYSTEMS:
        flavors = [f"{getattr(known, name)}" if not unavailable(name, known) else f"{getattr(known, name) or 'none'}, refused"
                   for name in ("redis", "valkey")]
        proved = "in each run of CI" if known.id == "debian" else "not by CI"
        lines.append(f"| {known.name} ({known.codename}) | {known.python} | {' | '.join(flavors)} | {known.postgresql} | {proved} |")
    return "\n".join([
        *lines, "",
        "Names of packages, units and directories are the same on all of them. Supervisor comes from PyPI, into a virtualenv of the app's.",
        "A Python that an app needs and the system has not is named in `app_python`; a Redis that it has not may be elsewhere.", "",
        "`WORKFLEET_SUITE=noble bin/test molecule trixie` runs a scenario of Debian 13 on Ubuntu 24.04, where an archive of Ubuntu's",
        "can be reached."])


def role_page(name: str, spec: Mapping[str, Any]) -> str:
    """Return a role's variables."""
    lines = [f"# Role {name}", "", *paragraphs(spec["description"]), "", "## Variables", "", *option_table(spec["options"])]
    for option, entry in spec["options"].items():
        lines += below(option, entry)
    return "\n".join(lines)


def role_readme(name: str, spec: Mapping[str, Any]) -> str:
    """Return what stands beside a role, for those who find it without its documentation."""
    lines = [f"# Role workfleet.core.{name}", "", text(spec["short_description"]) + ".", "", *paragraphs(spec["description"]), "",
             "```yaml", "- hosts: some_hosts", "  become: true", "  roles:", f"    - workfleet.core.{name}", "```", "",
             f"[All its variables](../../docs/reference/role-{name}.md), [a complete project](../../docs/collection.md)."]
    return "\n".join(lines)


def below(name: str, entry: Mapping[str, Any]) -> Iterator[str]:
    """Yield the tables of what is inside of an option, and inside of that."""
    if "options" in entry:
        yield from ("", f"## {'An entry of ' if entry['type'] == 'list' else ''}`{name}`", "", *option_table(entry["options"]))
        for inner, options in entry["options"].items():
            yield from below(f"{name}.{inner}", options)


def module_page(name: str, texts: Mapping[str, Any], kind: str = "Module") -> str:
    """Return the page of a module, or of another plugin."""
    doc = texts["DOCUMENTATION"]
    options = {key: entry for key, entry in doc["options"].items() if key not in HANDED_OVER}
    lines = [f"# {kind} workfleet.core.{name}", "", text(doc["short_description"]) + ".", "", *paragraphs(doc["description"])]
    if options:
        lines += ["", "## Options", "", *option_table(options)]
    modes = doc.get("attributes", {})
    if modes:
        lines += ["", "## Check and diff mode", "", "| mode | support | |", "|---|---|---|"]
        lines += [f"| {key.removesuffix('_mode')} | {mode['support']} | {cell(mode.get('description', ''))} |"
                  for key, mode in modes.items()]
    lines += ["", "## Example", "", "```yaml", texts["EXAMPLES"].strip(), "```"]
    if texts["RETURN"]:
        lines += ["", "## Returned", "", "| key | type | when | |", "|---|---|---|---|"]
        lines += [f"| `{key}` | {entry['type']} | {entry.get('returned', '')} | {cell(entry['description'])} |"
                  for key, entry in texts["RETURN"].items()]
    return "\n".join(lines)


def referenced() -> dict[str, Reference]:
    """Return the engines whose options are tables, with these."""
    return {name: engine.reference for name, engine in engines.ALL.items() if engine.reference}


def engine_page(engine: str, told: Reference) -> str:
    """Return the tables of what ``options``, and ``settings`` where they are a table, of a group of an engine may hold."""
    lines = [f"# {told.title}"]
    for key, table in told.tables.items():
        of = SINGLES.get(engine, f"a group may hold where its `engine` is `{engine}`")
        lines += ["", f"What `{key}` of {of}: {told.versions}.", ""]
        usable = {name: option for name, option in table.items() if not option.refused}
        has_flags = any(option.flag for option in usable.values())
        has_since = any(option.since for option in usable.values())
        heads = ["option", *(["flag"] if has_flags else []), "value", *(["since"] if has_since else [])]
        lines += [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
        for name, option in usable.items():
            flag = [f"`{option.flag}`" if option.flag else ""] if has_flags else []
            value = ", ".join(f"`{choice}`" for choice in option.choices) or VALUES[option.kind]
            lines.append(f"| {' | '.join([f'`{name}`', *flag, value, *([option.since] if has_since else [])])} |")
        lines += ["", "Refused, and why:", "", "| option | reason |", "|---|---|"]
        lines += [f"| `{name}` | {option.refused} |" for name, option in table.items() if option.refused]
    return "\n".join(lines)


#: Of those that no worker group can have.
SINGLES = {engines.SCHEDULER: "`worker_scheduler` may hold", engines.DASHBOARD: "`worker_dashboard` may hold"}

VALUES = {"text": "a text", "flag": "`true`, `false`", "int": "a whole number", "float": "seconds", "list": "a list of names",
          "pair": "`[MAX, MIN]`"}


def option_table(options: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return a table of options."""
    lines = ["| name | type | default | |", "|---|---|---|---|"]
    for name, entry in options.items():
        kind = f"list of {entry['elements']}" if "elements" in entry else entry["type"]
        choices = " · ".join(f"`{choice}`" for choice in entry.get("choices", ()) if choice != "")
        said = cell(entry["description"]) + (f" One of {choices}." if choices else "") + (" Secret." if entry.get("no_log") else "")
        lines.append(f"| `{name}` | {kind} | {default(entry)} | {said} |")
    return lines


def default(entry: Mapping[str, Any]) -> str:
    """Return an option's default as a cell."""
    if entry.get("required"):
        return "required"
    if entry.get("default") in (None, ""):
        return ""
    value = entry["default"]
    return f"`{yaml.safe_dump(value, default_flow_style=True, width=1000).removesuffix('...' + chr(10)).strip()}`"


def cell(description: str | list[str]) -> str:
    """Return a description as one line."""
    return " ".join(paragraphs(description)).replace("|", "\\|")


def paragraphs(description: str | list[str]) -> list[str]:
    """Return a description's sentences in Markdown."""
    return [text(part) for part in ([description] if isinstance(description, str) else description)]


def text(source: str) -> str:
    """Turn Ansible's markup into Markdown's."""
    return MARKUP.sub(lambda found: f"`{found[1]}`", " ".join(source.split()))


def load(path: Path) -> Any:
    """Return a YAML file."""
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def documentation(path: Path) -> dict[str, Any]:
    """Return what a module says of itself, without running it."""
    found: dict[str, Any] = {"DOCUMENTATION": {}, "EXAMPLES": "", "RETURN": {}}
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id in found:
            said = ast.literal_eval(node.value)
            found[node.targets[0].id] = said if node.targets[0].id == "EXAMPLES" else yaml.safe_load(said) or {}
    found["EXAMPLES"] = found["EXAMPLES"].replace("---\n", "", 1)
    texts = found["DOCUMENTATION"]
    for name in texts.get("extends_documentation_fragment", ()):
        for section, entries in fragment(name).items():  # what the plugin says itself is taken first, as with ansible-doc
            for key, entry in entries.items():
                texts.setdefault(section, {}).setdefault(key, entry)
    texts.setdefault("options", {})
    return found


@cache
def fragment(name: str) -> dict[str, Any]:
    """Return a documentation fragment: ``workfleet.core.FILE`` or ``workfleet.core.FILE.variant``."""
    file, _, variant = name.removeprefix("workfleet.core.").partition(".")
    found = import_module(f"plugins.doc_fragments.{file}").ModuleDocFragment
    texts: dict[str, Any] = yaml.safe_load(getattr(found, (variant or "documentation").upper()))
    return texts


def main() -> None:
    """Write all pages anew."""
    shutil.rmtree(REFERENCE, ignore_errors=True)
    REFERENCE.mkdir(parents=True)
    for name, page in pages().items():
        (DOCS / name).write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
