"""What setup.py compiles can be compiled, and is what the processes of tests run."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.compiled import ROOT, SEARCH, VARIABLE, plain_python, use_compiled

SETUP = (ROOT / "setup.py").read_text("utf-8")
COMPILED = next(
    str(ast.literal_eval(node.value)).split()
    for node in ast.parse(SETUP).body
    if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "COMPILED"
)
NAME = "shared.smtp.lines"


def path_of(module: str, environment: dict[str, str]) -> str:
    """Where a process started with `environment` finds the module."""
    code = f"import {module} as found; print(found.__file__)"
    command = [sys.executable, "-c", code]
    return subprocess.run(
        command, check=True, capture_output=True, text=True, env=environment, cwd=ROOT, timeout=60
    ).stdout.strip()


def bare_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}


@pytest.mark.parametrize("name", COMPILED)
def test_a_compiled_module_defines_nothing_that_mypyc_gets_wrong(name: str) -> None:
    for node in ast.walk(ast.parse((ROOT / name).read_text("utf-8"))):
        if isinstance(node, ast.ClassDef):
            bases = [ast.unparse(base) for base in node.bases]
            assert not any(base.endswith("Struct") for base in bases), node.name
            assert not node.keywords, f"mypyc drops what {node.name} says in brackets"
        if isinstance(node, ast.AsyncFunctionDef):
            assert not any(isinstance(part, ast.Yield) for part in ast.walk(node)), node.name


def test_each_is_named_once_and_in_order() -> None:
    assert sorted(set(COMPILED)) == COMPILED


def test_what_tests_start_is_compiled() -> None:
    environment = bare_environment()
    if not use_compiled(environment):
        pytest.skip(f"plain Python: {VARIABLE} is not set (make test sets it)")

    names = [name.removesuffix(".py").replace("/", ".") for name in COMPILED]
    code = f"import importlib; [print(importlib.import_module(n).__file__) for n in {names}]"
    command = [sys.executable, "-W", "error", "-c", code]
    found = subprocess.run(
        command, check=True, capture_output=True, text=True, env=environment, cwd=ROOT, timeout=60
    ).stdout.split()

    assert len(found) == len(COMPILED)
    assert [path for path in found if not path.endswith(".so")] == []


def test_without_a_name_it_is_plain_python() -> None:
    environment = bare_environment()
    environment.pop(VARIABLE, None)

    assert not use_compiled(environment)
    assert path_of(NAME, environment) == str(ROOT / "shared/smtp/lines.py")


def test_what_has_to_be_plain_can_be_started_so(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SEARCH:
        monkeypatch.setenv(name, "kept")
    with plain_python():
        assert not [name for name in SEARCH if name in os.environ]
    assert [os.environ[name] for name in SEARCH] == ["kept", "kept"]


def test_a_folder_that_holds_nothing_is_an_error_in_ci_only(tmp_path: Path) -> None:
    assert not use_compiled({VARIABLE: str(tmp_path)})
    with pytest.raises(RuntimeError, match="nothing that was built"):
        use_compiled({VARIABLE: str(tmp_path), "CI": "true"})
