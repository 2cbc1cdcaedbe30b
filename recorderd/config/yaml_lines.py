"""YAML to plain values, remembering the line of every key.

PyYAML's own loader drops the lines and lets the last of two equal keys win in silence. Composing the node
tree first keeps the marks; the values are then built node by node with the safe constructor.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import yaml

KeyPath = tuple[str | int, ...]

MAX_BYTES = 256 * 1024
"""A configuration has a few kilobytes; PyYAML needs seconds for a megabyte."""


class Fault(NamedTuple):
    """Something wrong at a line (1-based) and key path of the file."""

    line: int
    path: KeyPath
    what: str


class Document(NamedTuple):
    """The values of a YAML file, the line of each key path, and what is wrong with the file as YAML."""

    values: Any
    lines: dict[KeyPath, int]
    faults: tuple[Fault, ...]

    def line(self, path: KeyPath) -> int:
        """Return the line of ``path``, or of its nearest parent that the file has."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)


def key_text(path: KeyPath) -> str:
    """Write a key path as a user would: ``sync.remotes[1].path``."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += f".{part}" if text else part
    return text


def parse_yaml(data: bytes) -> Document:
    """Parse one YAML document; never raises for what the file holds."""
    if len(data) > MAX_BYTES:
        return _broken(1, f"larger than {MAX_BYTES // 1024} kB: not a configuration")
    # Anchors could repeat a part of the tree exponentially often; a configuration has no use for them.
    try:
        for token in yaml.scan(data, Loader=yaml.SafeLoader):
            if isinstance(token, (yaml.AnchorToken, yaml.AliasToken)):
                return _broken(token.start_mark.line + 1, "anchors and aliases are not understood here")
        node = yaml.compose(data, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        return _broken(mark.line + 1 if mark else 1, f"not YAML: {error.problem or error.context}")
    except yaml.reader.ReaderError as error:
        position = error.position if isinstance(error.position, int) else 0
        return _broken(data[:position].count(b"\n") + 1, f"not YAML: {error.reason} at byte {position}")
    except RecursionError:
        return _broken(1, "nested too deeply")
    if node is None:
        return Document({}, {(): 1}, ())
    walk = _Walk()
    values = walk.value(node, ())
    return Document(values, walk.lines, tuple(walk.faults))


def _broken(line: int, what: str) -> Document:
    return Document(None, {(): 1}, (Fault(line, (), what),))


class _Walk:
    """Builds the values of a node tree and notes the line of each key on the way."""

    def __init__(self) -> None:
        self.lines: dict[KeyPath, int] = {}
        self.faults: list[Fault] = []

    def value(self, node: yaml.Node, path: KeyPath) -> Any:
        line = node.start_mark.line + 1
        self.lines.setdefault(path, line)
        if isinstance(node, yaml.MappingNode):
            return {key: self.value(child, (*path, key)) for key, child in self._items(node, path)}
        if isinstance(node, yaml.SequenceNode):
            return [self.value(child, (*path, at)) for at, child in enumerate(node.value)]
        try:
            return _Constructor().construct_object(node)
        except (yaml.MarkedYAMLError, ValueError) as error:
            what = getattr(error, "problem", None) or str(error)
            self.faults.append(Fault(line, path, f"not a value: {what}"))
            return None

    def _items(self, node: yaml.MappingNode, path: KeyPath) -> Iterator[tuple[str, yaml.Node]]:
        first_line: dict[str, int] = {}
        for key_node, child in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                self.faults.append(Fault(line, path, "a key must be a word"))
                continue
            # The text of the key as written: YAML 1.1 would make a boolean of `on` and `no`.
            key = key_node.value
            if key in first_line:
                what = f"given twice (first on line {first_line[key]})"
                self.faults.append(Fault(line, (*path, key), what))
                continue
            first_line[key] = line
            self.lines[*path, key] = line
            yield key, child


class _Constructor(yaml.constructor.SafeConstructor):
    """The safe constructor, without a stream behind it."""
