"""What pydantic found wrong with a configuration, in a user's words."""

import difflib
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from recorderd.config.models import LATER, Config
from recorderd.config.remotes import REMOTE_MODELS
from recorderd.config.yaml_lines import Document, Fault, KeyPath

TAGS = ("<auto>", "<list>", "<number>", *REMOTE_MODELS)
"""What pydantic puts into an error's location for a union; never part of a key."""


def faults_of(error: ValidationError, document: Document) -> list[Fault]:
    """All that pydantic found wrong with the values of ``document``."""
    faults = []
    for details in error.errors(include_url=False):
        path: KeyPath = tuple(part for part in details["loc"] if part not in TAGS)
        if details["type"] == "union_tag_not_found" and isinstance(details["input"], dict):
            path = (*path, "type")
        faults.append(Fault(document.line(path), path, what_is_wrong(details, path, details["loc"])))
    return faults


def what_is_wrong(details: ErrorDetails, path: KeyPath, tagged: KeyPath | None = None) -> str:
    """Say in a user's words what pydantic found; ``tagged`` is the path with the kinds of remotes in it."""
    given = _shown(details.get("input"))
    context: dict[str, Any] = details.get("ctx", {})
    match details["type"]:
        case "missing":
            return "required"
        case "extra_forbidden":
            return _unknown_key(tagged or path)
        case "int_type" | "int_from_float" | "int_parsing":
            return f"must be a whole number, is {given}"
        case "float_type" | "float_parsing" | "finite_number":
            return f"must be a number, is {given}"
        case "bool_type" | "bool_parsing":
            return f"must be true or false, is {given}"
        case "string_type":
            return f"must be text, is {given} (quotes make it text)"
        case "tuple_type" | "list_type":
            return f"must be a list, is {given}"
        case "union_tag_not_found" if isinstance(details["input"], dict):
            return _remote_type(details["input"].get("type"))
        case "union_tag_not_found" | "model_type" | "model_attributes_type" | "dict_type":
            return f"must be keys and values, is {given}"
        case "literal_error" if path[-1:] == ("interfaces",):
            return f"must be auto or a list such as [eth0], is {given}"
        case "literal_error" if path[-1:] == ("tunnels",):
            return f"must be auto or a list such as [vxlan], is {given}"
        case "literal_error":
            return f"must be {context['expected']}, is {given}"
        case "greater_than_equal":
            return f"must be at least {context['ge']}, is {given}"
        case "greater_than":
            return f"must be more than {context['gt']}, is {given}"
        case "less_than_equal":
            return f"must be at most {context['le']}, is {given}"
        case "too_short" | "string_too_short":
            return "must not be empty"
        case "value_error":
            return str(context["error"])
        case "string_pattern_mismatch":
            return f"{given} does not match {context['pattern']}"
        case _:
            return details["msg"]


def _shown(value: object) -> str:
    if value is None:
        return "empty"
    if isinstance(value, bool):
        return str(value).lower()
    text = f"'{value}'" if isinstance(value, str) else str(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _remote_type(given: object) -> str:
    *most, last = (repr(tag.strip("<>")) for tag in REMOTE_MODELS)
    return "required" if given is None else f"must be {', '.join(most)} or {last}, is {_shown(given)}"


def _unknown_key(path: KeyPath) -> str:
    if len(path) == 1 and path[0] in LATER:
        return "not available in this version"
    fields = _model_at(path[:-1]).model_fields
    known = sorted(field.alias or name for name, field in fields.items())
    near = difflib.get_close_matches(str(path[-1]), known, n=1, cutoff=0.6)
    if near:
        return f"unknown key; did you mean {near[0]}?"
    return f"unknown key; known here: {', '.join(known)}"


def _model_at(path: KeyPath) -> type[BaseModel]:
    """Return the model of the section at ``path``."""
    model: type[BaseModel] = Config
    for part in path:
        if part in REMOTE_MODELS:
            model = REMOTE_MODELS[str(part)]
        elif isinstance(part, str):
            known = model.model_fields.get(part)
            model = (_model_in(known.annotation) if known else None) or model
    return model


def _model_in(annotation: object) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for inner in get_args(annotation):
        if found := _model_in(inner):
            return found
    return None
