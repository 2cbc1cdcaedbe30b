"""Reads a configuration file; every fault becomes a line ``FILE:LINE key.path[0]: what is wrong``."""

import difflib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from recorderd.config.models import LATER, TAGS, Config
from recorderd.config.policy import PolicyConfig
from recorderd.config.sync import REMOTE_MODELS, FileRemote
from recorderd.config.yaml_lines import Document, Fault, KeyPath, key_text, parse_yaml
from recorderd.errors import ConfigError


def load_config(path: Path | str) -> Config:
    """Load and check the configuration in the file ``path``.

    Raises ConfigError with all that is wrong, a line each, in the order of the file.
    """
    file = Path(path)
    try:
        data = file.read_bytes()
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}") from None
    return parse_config(data, str(path), file.absolute().parent)


def parse_config(data: bytes, name: str, base: Path) -> Config:
    """Check the configuration ``data``; ``name`` stands in errors, relative paths are taken from ``base``."""
    document = parse_yaml(data)
    faults = list(document.faults)
    config: Config | None = None
    # `!` and `null` are an empty file in other words.
    values = {} if document.values is None and not faults else document.values
    if isinstance(values, dict):
        try:
            config = Config.model_validate(values, context={"base": base})
        except ValidationError as error:
            known = {fault.path for fault in faults}
            faults += [fault for fault in _faults(error, document) if fault.path not in known]
    elif values is not None:
        faults.append(Fault(1, (), "must be keys and values, as `spool:` and `encryption:`"))
    if config is not None:
        faults += [Fault(document.line(path), path, what) for path, what in _overlaps(config)]
    if faults or config is None:
        raise ConfigError("\n".join(_text(name, fault) for fault in sorted(faults, key=_order)))
    config.read_from(name, document)
    return config


def load_policy(path: Path) -> PolicyConfig:
    """Load rules to be tried: a file with a section `policy`, as a whole configuration, or its content alone.

    Raises ConfigError with all that is wrong, a line each, in the order of the file.
    """
    try:
        document = parse_yaml(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    faults = list(document.faults)
    values = document.values if isinstance(document.values, dict) else {}
    where: KeyPath = ("policy",) if "policy" in values else ()
    try:
        policy = PolicyConfig.model_validate(values["policy"] if where else values)
    except ValidationError as error:
        for details in error.errors(include_url=False):
            place: KeyPath = (*where, *details["loc"])
            what = _what(details, ("policy", *details["loc"]))
            faults.append(Fault(document.line(place), place, what))
    if faults:
        raise ConfigError("\n".join(_text(str(path), fault) for fault in sorted(faults, key=_order)))
    return policy


def _overlaps(config: Config) -> Iterator[tuple[KeyPath, str]]:
    """Remotes that are no second place: in the spool, around it, or in one another."""
    taken = [("the spool", config.spool.path.resolve())]
    for number, remote in enumerate(config.sync.remotes):
        if not isinstance(remote, FileRemote):
            continue
        real = remote.path.resolve()
        for what, other in taken:
            if real.is_relative_to(other) or other.is_relative_to(real):
                yield ("sync", "remotes", number, "path"), f"{remote.path} is not apart from {what}"
        taken.append((f"the remote {remote.name}", real))


def _order(fault: Fault) -> tuple[int, str]:
    return fault.line, key_text(fault.path)


def _text(name: str, fault: Fault) -> str:
    key = key_text(fault.path)
    return f"{name}:{fault.line} {key}: {fault.what}" if key else f"{name}:{fault.line}: {fault.what}"


def _faults(error: ValidationError, document: Document) -> list[Fault]:
    faults = []
    for details in error.errors(include_url=False):
        path: KeyPath = tuple(part for part in details["loc"] if part not in TAGS)
        if details["type"] == "union_tag_not_found" and isinstance(details["input"], dict):
            path = (*path, "type")
        faults.append(Fault(document.line(path), path, _what(details, path, details["loc"])))
    return faults


def _what(details: ErrorDetails, path: KeyPath, tagged: KeyPath | None = None) -> str:
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
