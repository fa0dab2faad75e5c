"""The rules of the tree that no reviewer should have to remember (see ARCHITECTURE.md)."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LONGEST_FILE = 400
LONGEST_FUNCTION = 60

SERVICES = ("ingress", "router", "delivery", "demo", "events", "probe")
COMPOSITION_ROOTS = {"services/cli.py", "services/run.py"}
"""These put services together; each imports a service only when it is asked for."""

IMPURE = {"socket", "ssl", "asyncio", "kombu", "time"}
PURE = (
    "shared/broker/topology.py",
    "shared/content/shares.py",
    "shared/messages/*.py",
    "shared/settings/model.py",
    "shared/settings/units.py",
    "shared/settings/values.py",
    "shared/smtp/replies.py",
)
"""What decides without doing. A module that calls itself "(pure)" is held to it as well."""

EDGES: dict[str, str | tuple[str, ...]] = {
    "aiosmtpd": "services/ingress/",
    "aiosmtplib": "services/delivery/",
    "amqp": "shared/broker/amqp/",
    "argon2": "services/ingress/",
    "dns": "shared/dns/",
    "kombu": "shared/broker/amqp/",
    "obstore": "shared/content/",
    "opentelemetry": "shared/tracing/otel.py",
    "pydantic_settings": "shared/settings/",
    "sqlite3": ("shared/broker/embedded/", "services/events/store.py"),
    "structlog": "shared/logs.py",
    "uvicorn": "shared/admin.py",
}
"""Each library has one place for each use, where its errors become ours."""

ENVIRONMENT = {"shared/settings/load.py", "services/run.py", "services/demo/stack.py"}
"""Who may look at environment variables: the settings, and who starts processes."""


def product() -> list[Path]:
    return sorted(path for part in ("services", "shared") for path in (ROOT / part).rglob("*.py"))


def written() -> list[Path]:
    return product() + sorted((ROOT / "tests").rglob("*.py"))


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@cache
def imports(path: Path) -> frozenset[str]:
    """Every module that `path` imports anywhere; `from a import b` counts as a.b."""
    found = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name(path)}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(found)


def importing(path: Path, *packages: str) -> list[str]:
    return [
        f"{name(path)} imports {module}"
        for module in sorted(imports(path))
        for package in packages
        if f"{module}.".startswith(f"{package}.")
    ]


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_imports_no_other_service(service: str) -> None:
    others = [f"services.{other}" for other in SERVICES if other != service]
    files = (ROOT / "services" / service).rglob("*.py")

    assert [line for path in files for line in importing(path, *others)] == []


def test_only_the_composition_roots_put_services_together() -> None:
    packages = [f"services.{service}" for service in SERVICES]
    files = [
        path for path in (ROOT / "services").glob("*.py") if name(path) not in COMPOSITION_ROOTS
    ]

    assert [line for path in files for line in importing(path, *packages)] == []


def test_what_is_shared_knows_no_service() -> None:
    files = (ROOT / "shared").rglob("*.py")

    assert [line for path in files for line in importing(path, "services")] == []


def test_the_product_knows_no_test() -> None:
    assert [line for path in product() for line in importing(path, "tests", "pytest")] == []


def pure_modules() -> Iterator[Path]:
    for pattern in PURE:
        paths = list(ROOT.glob(pattern))
        assert paths, f"{pattern} is not there"
        yield from paths
    for path in product():
        if "(pure)" in (ast.get_docstring(tree(path)) or ""):
            yield path


def test_pure_modules_do_no_input_or_output_and_have_no_clock() -> None:
    assert [line for path in pure_modules() for line in importing(path, *IMPURE)] == []


@pytest.mark.parametrize(("library", "edge"), EDGES.items())
def test_a_library_is_used_at_its_own_edge_only(library: str, edge: str | tuple[str, ...]) -> None:
    files = [path for path in product() if not name(path).startswith(edge)]

    assert [line for path in files for line in importing(path, library)] == []


def test_the_environment_is_read_in_one_place() -> None:
    files = [path for path in product() if name(path) not in ENVIRONMENT]
    readers = [
        f"{name(path)}:{node.lineno}"
        for path in files
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Attribute) and node.attr in {"environ", "environb", "getenv"}
    ]

    assert readers == []


def test_every_module_says_what_it_owns() -> None:
    silent = [
        name(path) for path in product() if tree(path).body and not ast.get_docstring(tree(path))
    ]

    assert silent == []


def test_no_file_is_too_long_to_read() -> None:
    lengths = {name(path): path.read_text("utf-8").count("\n") for path in written()}

    assert {path: lines for path, lines in lengths.items() if lines > LONGEST_FILE} == {}


def test_no_function_is_too_long_to_read() -> None:
    long = [
        f"{name(path)}:{node.lineno} {node.name}: {lines} lines"
        for path in written()
        for node in ast.walk(tree(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (lines := (node.end_lineno or node.lineno) - node.lineno + 1) > LONGEST_FUNCTION
    ]

    assert long == []


def test_the_architecture_page_has_a_line_for_every_module() -> None:
    page = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    modules = [name(path) for path in product() if tree(path).body]

    assert [module for module in modules if f"`{module}`" not in page] == []


def test_the_architecture_page_names_no_module_that_is_gone() -> None:
    page = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    named = re.findall(r"`((?:services|shared|tests)/[\w/]+\.py)`", page)

    assert [module for module in named if not (ROOT / module).is_file()] == []


def test_the_page_of_attacks_names_tests_that_are_there() -> None:
    page = (ROOT / "docs" / "attacks.md").read_text(encoding="utf-8")
    named = re.findall(r"`(tests/[\w/]+\.\w+)`", page)

    assert len(named) > 40
    assert [path for path in named if not (ROOT / path).is_file()] == []
