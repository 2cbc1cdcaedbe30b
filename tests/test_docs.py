"""The documents say what is true: every key, exit code and command is in them; links and examples hold."""

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from recorderd import errors
from recorderd.config import Config, sync
from recorderd.config.loader import parse_config
from recorderd.config.models import LATER
from recorderd.config.remotes import REMOTE_MODELS
from recorderd.service.cli import COMMANDS as DAEMON_COMMANDS
from recorderd.tools.cli import COMMANDS, build_parser

ROOT = Path(__file__).parent.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


def text_of(name: str) -> str:
    return (ROOT / name).read_text()


def models_in(annotation: object) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if annotation == sync.Remote:
        return list(REMOTE_MODELS.values())
    return [model for inner in get_args(annotation) for model in models_in(inner)]


def keys(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, str, str]]:
    """Yield (key, default as YAML, description) of every key that has a value; what several kinds of a thing
    have in common once, with the first."""
    for attribute, field in model.model_fields.items():
        name = field.alias or attribute
        inner = models_in(field.annotation)
        if not inner or field.description:
            if field.is_required():
                default = "required"
            elif field.default is PydanticUndefined:
                default = "the host's name"
            elif field.default in (None, ""):
                default = ""
            else:
                default = f"`{json.dumps(field.default).strip(chr(34))}`"
            yield prefix + name, default, field.description or ""
        below = f"{prefix}{name}{'[]' if 'tuple[' in str(field.annotation) else ''}."
        yield from dict.fromkeys(row for each in inner for row in keys(each, below))


@pytest.mark.parametrize(("key", "default", "description"), [*keys(Config)])
def test_every_key_is_in_the_reference(key: str, default: str, description: str) -> None:
    rows = [line for line in text_of("docs/configuration.md").splitlines() if line.startswith(f"| `{key}` |")]
    assert f"| `{key}` | {default} | {description} |" in rows


def test_the_reference_has_no_key_that_is_none() -> None:
    documented = re.findall(r"^\| `([a-z0-9_.\[\]]+)` \|", text_of("docs/configuration.md"), re.MULTILINE)
    assert documented == [key for key, _, _ in keys(Config)]
    assert all(f"`{section}`" in text_of("docs/configuration.md") for section in LATER)


def test_the_commented_example_has_every_key_with_its_default() -> None:
    """What the example has commented out is, uncommented, the default."""
    text = text_of("config/recorderd.yaml")
    bare = parse_config(text.encode(), "recorderd.yaml", Path("/etc/recorderd"))
    whole = re.sub(r"^( *)# (?=[a-z_]+: )", r"\1", text, flags=re.MULTILINE)
    full = parse_config(whole.encode(), "recorderd.yaml", Path("/etc/recorderd"))
    assert full.model_dump(exclude={"site", "spool", "control"}) == bare.model_dump(
        exclude={"site", "spool", "control"}
    )
    assert full.signing_key == bare.signing_key
    assert full.control_socket == bare.control_socket
    for key, _, _ in keys(Config):
        assert re.search(rf"\b{key.rpartition('.')[2]}: ?", text), key


def every_error() -> list[type[errors.RecorderError]]:
    found = [errors.RecorderError]
    for kind in found:
        found += kind.__subclasses__()
    return found


def test_every_exit_code_is_documented() -> None:
    table = dict(re.findall(r"^\| (\d+) \| (.+) \|$", text_of("docs/operations.md"), re.MULTILINE))
    codes = {str(kind.exit_code) for kind in every_error()}
    assert codes | {"0", "130"} <= set(table)
    assert set(table) <= codes | {"0", "130", "141"}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_documented(name: str) -> None:
    assert re.search(rf"recorderctl .*\b{name}\b", text_of("docs/operations.md"))


@pytest.mark.parametrize("name", DAEMON_COMMANDS)
def test_every_command_of_the_daemon_is_documented(name: str) -> None:
    assert f"recorderd {name}" in text_of("docs/operations.md")


def shell_lines(document: Path) -> Iterator[str]:
    """Yield the commands of the fenced ``sh`` blocks, continued lines joined, comments gone."""
    for block in re.findall(r"^```sh\n(.*?)^```", document.read_text(), re.MULTILINE | re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            if words := shlex.split(line, comments=True):
                yield shlex.join(words)


def commands_of(program: str) -> list[tuple[str, str]]:
    return [
        (document.relative_to(ROOT).as_posix(), line)
        for document in DOCUMENTS
        for line in shell_lines(document)
        if Path(line.removeprefix("sudo ").split()[0]).name == program
    ]


@pytest.mark.parametrize(("document", "line"), commands_of("recorderctl"))
def test_every_example_of_recorderctl_is_understood(document: str, line: str) -> None:
    words = shlex.split(line.removeprefix("sudo "))
    parsed = build_parser().parse_args(words[1:])
    assert parsed.command in COMMANDS


@pytest.mark.parametrize(("document", "line"), commands_of("recorderd"))
def test_every_example_of_recorderd_is_understood(document: str, line: str) -> None:
    words = shlex.split(line.removeprefix("sudo "))
    help_text = run("recorderd.service.cli", words[1], "--help")
    for option in (word for word in words[2:] if word.startswith("-")):
        assert option in help_text


def run(module: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(("document", "line"), commands_of("make"))
def test_every_make_target_exists(document: str, line: str) -> None:
    targets = [word for word in shlex.split(line)[1:] if "=" not in word]
    for target in targets:
        assert re.search(rf"^{target}:", text_of("Makefile"), re.MULTILINE), f"{document}: make {target}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    for target, anchor in re.findall(r"\]\(([^)#\s]*)(#[^)\s]*)?\)", document.read_text()):
        if "://" in target:
            continue
        file = document.parent / target if target else document
        assert file.exists(), f"{document.name}: {target}"
        if anchor:
            assert anchor[1:] in anchors(file), f"{document.name}: {target}{anchor}"


def anchors(file: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", file.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_examples_of_configuration_in_the_documents_load() -> None:
    blocks = [
        (document.name, block)
        for document in DOCUMENTS
        for block in re.findall(r"^```yaml\n(.*?)^```", document.read_text(), re.MULTILINE | re.DOTALL)
    ]
    assert blocks
    for name, block in blocks:
        needed = "" if "spool:" in block else "spool: {path: /s}\nencryption: {recipients: [/r.pub]}\n"
        parse_config((needed + block).encode(), name, Path("/etc/recorderd"))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_module_and_file_that_is_named_exists(document: Path) -> None:
    for name in re.findall(
        r"`((?:recorderd|spool|codecs|tools|tests|docs|config|systemd)/[\w./-]*)`", document.read_text()
    ):
        assert (ROOT / name).exists(), f"{document.name}: {name}"


def test_decisions_are_numbered_one_by_one() -> None:
    pages = sorted((ROOT / "docs/adr").glob("*.md"))
    assert [int(page.name[:4]) for page in pages] == list(range(1, len(pages) + 1))
    for page in pages:
        text = page.read_text()
        assert text.startswith(f"# {int(page.name[:4])}. "), page.name
        for heading in ("## Context", "## Decision", "## What it costs"):
            assert heading in text, f"{page.name}: {heading}"


def test_the_changelog_has_this_version() -> None:
    from recorderd import __version__

    assert re.search(rf"^## \[({re.escape(__version__)}|Unreleased)\]", text_of("CHANGELOG.md"), re.MULTILINE)
