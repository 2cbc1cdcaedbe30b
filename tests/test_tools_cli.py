import os
import subprocess
import sys

import pytest

from recorderd import errors
from recorderd.tools.cli import COMMANDS, load_command
from recorderd.tools.terminal import cell_text
from recorderd.tools.texts import about, duration, size, sync_word
from tests.spool_builder import make_desk
from tests.tools_runner import recorderctl


@pytest.fixture
def desk(tmp_path):
    return make_desk(tmp_path)


def test_every_command_is_there():
    for name in COMMANDS:
        module = load_command(name)
        assert callable(module.add_arguments)
        assert callable(module.run)
        assert module.__doc__.startswith(f"`recorderctl {name}`")


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_command_has_help(name, capsys):
    with pytest.raises(SystemExit) as left:
        recorderctl(name, "--help")
    assert left.value.code == 0
    shown = capsys.readouterr().out
    assert "--json" in shown
    assert "--spool" in shown


def test_help_names_every_command(capsys):
    with pytest.raises(SystemExit):
        recorderctl("--help")
    shown = capsys.readouterr().out
    assert all(name in shown for name in COMMANDS)


def test_a_command_is_imported_only_when_it_is_called():
    """`list` must not wait for the audio libraries that `export` needs."""
    script = (
        "import sys; from recorderd.tools.cli import build_parser;"
        "build_parser().parse_args(['keygen', '-o', 'x']);"
        "print([name for name in sys.modules if name.startswith('recorderd.tools.cmd_')])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['recorderd.tools.cmd_keygen']"


@pytest.mark.parametrize(
    "arguments",
    [
        ["--spool", "SPOOL", "--json", "list"],
        ["--spool", "SPOOL", "list", "--json"],
        ["list", "--spool", "SPOOL", "--json"],
        ["--json", "list", "--spool", "SPOOL"],
        ["-c", "CONFIG", "--json", "list"],
        ["list", "--json", "-c", "CONFIG"],
        ["list", "--config", "CONFIG", "--json"],
        ["-c", "nothing.yaml", "list", "--json", "--spool", "SPOOL"],
    ],
)
def test_common_options_stand_anywhere(desk, tmp_path, arguments):
    config = tmp_path / "config.yaml"
    config.write_text("spool: {path: spool}\nencryption: {recipients: [identity.pub], suite: x25519}\n")
    sealed = desk.record()
    from recorderd.spool.index import Index

    with Index.open(desk.spool) as index:
        desk.enter(index, sealed)
    places = {"SPOOL": desk.spool.path, "CONFIG": config}
    answer = recorderctl(*[places.get(argument, argument) for argument in arguments])
    assert (answer.code, answer.err) == (0, "")
    assert [row["id"] for row in answer.json] == [sealed.recording]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 2, "COMMAND"),
        (["juggle"], 2, "juggle"),
        (["list", "--juggle"], 2, "--juggle"),
        (["show"], 2, "ID"),
        (["list", "--limit", "many"], 2, "many"),
        (["list", "--since", "yesterday"], 2, "yesterday"),
        (["list", "--since", "2026-13-01"], 2, "2026-13-01"),
        (["list", "--since", "9999-12-31T23:59:59.999999-10:00"], 2, "9999-12-31"),
        (["verify"], 2, "--all"),
        (["list", "-c", "/nowhere/config.yaml"], 10, "/nowhere/config.yaml"),
        (["list", "--spool", "/nowhere"], 24, "/nowhere"),
        (["sync", "--spool", "/nowhere", "-c", "/nowhere/config.yaml"], 10, "config.yaml"),
    ],
)
def test_an_error_is_one_line_and_a_hint_or_json(desk, arguments, code, message):
    if "--limit" in arguments or "--since" in arguments or "verify" in arguments:
        arguments = ["--spool", str(desk.spool.path), *arguments]
    answer = recorderctl(*arguments)
    assert (answer.code, answer.out) == (code, "")
    line, hint = answer.err.splitlines()
    assert line.startswith("recorderctl: ")
    assert message in line
    assert hint.startswith("  hint: ")
    answer = recorderctl("--json", *arguments)
    assert answer.code == code
    assert message in answer.error["message"]


def test_an_error_shows_no_control_characters(desk):
    answer = recorderctl("--spool", desk.spool.path, "show", "\x1b[2Jevil\n\u202eid")
    assert answer.code == errors.NoSuchRecording.exit_code
    assert len(answer.err.splitlines()) == 2
    assert "\x1b" not in answer.err
    assert "\u202e" not in answer.err


def test_every_error_of_a_configuration_is_a_line(tmp_path):
    config = tmp_path / "config.yaml"
    config.write_text("spool: {path: spool, colour: red}\nencryption: {recipients: []}\n")
    answer = recorderctl("-c", config, "list")
    assert answer.code == errors.ConfigError.exit_code
    lines = [line for line in answer.err.splitlines() if line.startswith("recorderctl: ")]
    assert len(lines) == 2
    assert "colour" in lines[0]


def test_what_may_not_be_read_is_an_error_and_no_traceback(desk):
    if os.geteuid() == 0:
        pytest.skip("root may read everything")
    desk.spool.index_path.touch(mode=0)
    assert recorderctl("--spool", desk.spool.path, "list").code == errors.SpoolError.exit_code


def test_the_installed_command_runs(desk):
    command = [sys.executable, "-c", "from recorderd.tools.cli import main; main()"]
    done = subprocess.run([*command, "list", "--spool", str(desk.spool.path)], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "no recordings\n", "")
    done = subprocess.run([*command, "list", "--spool", "/nowhere"], capture_output=True, text=True)
    assert done.returncode == 24
    assert done.stderr.startswith("recorderctl: /nowhere")


def test_a_reader_that_has_seen_enough_is_no_error(desk):
    main = "from recorderd.tools.cli import main; main()"
    script = f'"{sys.executable}" -c "{main}" --help | head -1; exit ${{PIPESTATUS[0]}}'
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_cells():
    assert cell_text(None) == "-"
    assert cell_text(True) == "yes"
    assert cell_text(-38.04) == "-38.0"
    assert cell_text(12) == "12"
    assert "\x1b" not in cell_text("\x1b[31mred\x07")


@pytest.mark.parametrize(
    ("seconds", "text"), [(None, None), (0, "0:00:00"), (59.6, "0:01:00"), (3725, "1:02:05")]
)
def test_durations(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(None, None), (0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (2_500_000, "2.5 MB"), (10**13, "10.0 TB")],
)
def test_sizes(count, text):
    assert size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(3, "about a minute"), (120, "2 minutes"), (3600, "60 minutes"), (9000, "2.5 hours")],
)
def test_times_to_come(seconds, text):
    assert about(seconds) == text


def test_sync_words():
    assert sync_word([]) is None
    one, two = {"remote": "a", "state": "verified"}, {"remote": "b", "state": "failed"}
    assert sync_word([one, one]) == "verified"
    assert sync_word([one, two]) == "b: failed"
