"""Reads a configuration file; every fault becomes a line ``FILE:LINE key.path[0]: what is wrong``."""

from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

from recorderd.config.models import Config
from recorderd.config.policy import PolicyConfig
from recorderd.config.yaml_lines import Fault, KeyPath, key_text, parse_yaml
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
            from recorderd.config.faults import faults_of  # needed for a faulty file alone

            known = {fault.path for fault in faults}
            faults += [fault for fault in faults_of(error, document) if fault.path not in known]
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
        from recorderd.config.faults import what_is_wrong  # needed for a faulty file alone

        for details in error.errors(include_url=False):
            place: KeyPath = (*where, *details["loc"])
            what = what_is_wrong(details, ("policy", *details["loc"]))
            faults.append(Fault(document.line(place), place, what))
    if faults:
        raise ConfigError("\n".join(_text(str(path), fault) for fault in sorted(faults, key=_order)))
    return policy


def _overlaps(config: Config) -> Iterator[tuple[KeyPath, str]]:
    """Remotes that are no second place: in the spool, around it, or in one another."""
    taken = [("the spool", config.spool.path.resolve())]
    for number, remote in enumerate(config.sync.remotes):
        if remote.type != "file":
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
