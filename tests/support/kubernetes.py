"""Kubernetes' own schemas, strictly: of the package kubernetes-validate, each read once."""

from __future__ import annotations

from functools import cache
from typing import Any

from jsonschema import Draft202012Validator
from kubernetes_validate.utils import all_versions, major_minor, schema_contents
from referencing import Registry, Resource


def faults(each: dict[str, Any], version: str) -> list[str]:
    """What Kubernetes `version` ("1.37") would say against an object; an unknown field counts."""
    found = _validator(version, each["apiVersion"], each["kind"]).iter_errors(each)
    return [f"{error.json_path}: {error.message}" for error in found]


@cache
def _validator(version: str, api_version: str, kind: str) -> Draft202012Validator:
    group, _, rest = api_version.rpartition("/")
    name = "-".join(part for part in (kind.lower(), group.partition(".")[0], rest) if part)
    schema = schema_contents(f"{_folder(version)}/{name}.json", version)
    return Draft202012Validator(schema, registry=_definitions(version))


@cache
def _definitions(version: str) -> Registry[Any]:
    contents = schema_contents(f"{_folder(version)}/_definitions.json", version)
    registry: Registry[Any] = Resource.from_contents(contents) @ Registry()
    return registry


@cache
def _folder(version: str) -> str:
    exact = next(each for each in all_versions() if major_minor(each) == version)
    return f"kubernetes-json-schema/v{exact}-local-strict"
