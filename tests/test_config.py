"""A configuration is loaded whole, or refused with the line and key of everything that is wrong."""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorderd.config import Config, load_config
from recorderd.config.loader import parse_config
from recorderd.config.section import Section
from recorderd.errors import ConfigError
from recorderd.wire.tunnel_settings import TunnelSettings

SMALL = "spool: {path: spool}\nencryption: {recipients: [keys/vault.pub]}\n"
BASE = Path("/etc/recorderd")


def parse(text: str) -> Config:
    return parse_config(text.encode(), "c.yaml", BASE)


def faults(text: str | bytes) -> list[str]:
    data = text.encode() if isinstance(text, str) else text
    with pytest.raises(ConfigError) as caught:
        parse_config(data, "c.yaml", BASE)
    return str(caught.value).split("\n")


def test_the_smallest_configuration_has_defaults_for_everything_else() -> None:
    config = parse(SMALL)
    assert config.spool.path == BASE / "spool"
    assert config.encryption.recipients == (BASE / "keys/vault.pub",)
    assert config.encryption.suite == "mlkem768-x25519"
    assert config.capture.interfaces == "auto"
    assert config.capture.sip_ports == (5060,)
    assert config.sync.remotes == ()
    assert config.signing_key == BASE / "spool/host.key"
    assert config.control_socket == BASE / "spool/control.sock"
    assert config.site.name


def test_a_full_configuration() -> None:
    config = parse(
        """
site: {name: munich-1}
capture:
  interfaces: [eth0, lo]
  sip_ports: [5060, 5080]
  grace_ms: 0
  pending_s: 3
quality: {silent_dbov: -70, gap_s: 1}
alerts: {syslog: {address: "[::1]:5514", facility: daemon, enabled: false}}
spool: {path: /var/lib/recorderd, signing_key: ../host.key}
encryption: {recipients: [/a.pub, b.pub], suite: X25519}  # as libraries write it
sync:
  interval_s: 0.5
  remotes:
    - {name: nas, type: file, path: /mnt/nas}
    - {name: second, type: file, path: ./second}
control: {socket: /run/recorderd/control.sock}
"""
    )
    assert config.site.name == "munich-1"
    assert config.capture.interfaces == ("eth0", "lo")
    assert config.capture.pending_s == 3.0
    assert config.quality.silent_dbov == -70.0
    assert config.alerts.syslog.address == "[::1]:5514"
    assert config.encryption.suite == "x25519"
    assert config.spool.path == Path("/var/lib/recorderd")
    assert config.signing_key == Path("/etc/host.key")
    assert [remote.name for remote in config.sync.remotes] == ["nas", "second"]
    assert config.sync.remotes[1].path == BASE / "second"
    assert config.control_socket == Path("/run/recorderd/control.sock")


def test_tunnels_are_opened_in_files_and_live_where_they_are_named() -> None:
    config = parse(SMALL).capture
    assert config.tunnels_opened(live=False) == TunnelSettings()
    assert config.tunnels_opened(live=True).opened == frozenset()
    config = parse(SMALL + "capture: {tunnels: [vxlan], tunnel_ports: {vxlan: [9999]}}").capture
    assert config.tunnels_opened(live=True) == config.tunnels_opened(live=False)
    assert config.tunnels_opened(live=True).opened == {"vxlan"}
    assert set(config.tunnels_opened(live=True).udp_ports) == {9999}
    assert parse(SMALL + "capture: {tunnels: []}").capture.tunnels_opened(live=False).opened == frozenset()


def test_the_limits_of_quality_are_those_of_the_review() -> None:
    from recorderd.quality.review import Thresholds

    assert Thresholds(**parse(SMALL).quality.model_dump()) == Thresholds()


def test_an_empty_section_is_a_section_of_defaults() -> None:
    assert parse(SMALL + "capture:\nsite:\nalerts:\n  syslog:\n").capture.sip_ports == (5060,)


def sections(model: type[Section] = Section) -> Iterator[type[Section]]:
    """All sections of which no key is required."""
    for section in model.__subclasses__():
        if not any(field.is_required() for field in section.model_fields.values()):
            yield section
        yield from sections(section)


@pytest.mark.parametrize("section", [*sections()])
def test_a_section_that_is_not_there_is_an_empty_one(section: type[Section]) -> None:
    """What is not there is not checked either: it has to be what a check would find."""
    default = section.model_construct()
    assert default == section.model_validate({}) == section.model_validate(default.model_dump(by_alias=True))


def test_a_home_folder_is_expanded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ann")
    assert parse("spool: {path: ~/calls}\nencryption: {recipients: [x]}").spool.path == Path(
        "/home/ann/calls"
    )


def test_another_spool_keeps_the_rest() -> None:
    config = parse(SMALL).with_spool(Path("/elsewhere"))
    assert config.spool.path == Path("/elsewhere")
    assert config.signing_key == Path("/elsewhere/host.key")
    assert config.where("encryption", "recipients", 0) == "c.yaml:2 encryption.recipients[0]"


def test_where_tells_the_place_of_a_key_and_of_a_missing_one() -> None:
    config = parse(
        "site:\n  name: x\n" + SMALL + "sync:\n  remotes:\n  - name: a\n    type: file\n    path: /a\n"
    )
    assert config.where("sync", "remotes", 0, "path") == "c.yaml:9 sync.remotes[0].path"
    assert config.where("sync", "interval_s") == "c.yaml:5 sync.interval_s"
    assert config.where("capture", "interfaces") == "c.yaml:1 capture.interfaces"


@pytest.mark.parametrize(
    ("added", "fault"),
    [
        ("capture: {sip_port: [1]}", "capture.sip_port: unknown key; did you mean sip_ports?"),
        ("captur: {}", "captur: unknown key; did you mean capture?"),
        ("siprec: {}", "siprec: not available in this version"),
        ("policy: []", "policy: must be keys and values, is []"),
        ("policy: {rules: [{name: a}]}", "policy.rules[0].action: required"),
        (
            "policy: {rules: [{name: a, action: record}, {name: a, action: record}]}",
            "policy.rules: a rule's name must be its own: a",
        ),
        (
            "policy: {rules: [{name: a, action: record, match: {form: x}}]}",
            "policy.rules[0].match.form: unknown key; did you mean from?",
        ),
        (
            "policy: {rules: [{name: a, action: record, match: {from: [2001]}}]}",
            "policy.rules[0].match.from[0]: must be text, is 2001 (quotes make it text)",
        ),
        (
            "policy: {rules: [{name: a, action: record, match: {number: 9-1}}]}",
            "policy.rules[0].match.number[0]: a range has two numbers of as many digits, the smaller first",
        ),
        (
            "policy: {rules: [{name: a, action: record, match: {time: 8-18}}]}",
            "policy.rules[0].match.time[0]: must be hours such as 08:00-18:30, is '8-18'",
        ),
        (
            "policy: {rules: [{name: a, action: record, match: {days: monday}}]}",
            "policy.rules[0].match.days[0]: must be a day such as mon or days such as mon-fri, is 'monday'",
        ),
        (
            "policy: {timezone: Mars/Olympus}",
            "policy.timezone: 'Mars/Olympus' is no time zone that this host knows, such as Europe/London",
        ),
        ("privacy: 1", "privacy: must be keys and values, is 1"),
        ("privacy: {dtmf: hide}", "privacy.dtmf: must be 'keep', 'digits' or 'remove', is 'hide'"),
        ("privacy: {pause: {header: 'X Y'}}", "privacy.pause.header: 'X Y' cannot be the name of a header"),
        (
            "privacy: {pause: {pause_keys: '*7', resume_keys: '*77'}}",
            "privacy.pause.resume_keys: *77 and the pause_keys *7 begin alike: whoever presses the longer one"
            " has pressed the shorter one already; take others, or the same for both",
        ),
        (
            "privacy: {pause: {pause_keys: '*77', resume_keys: '*7'}}",
            "privacy.pause.resume_keys: *7 and the pause_keys *77 begin alike: whoever presses the longer one"
            " has pressed the shorter one already; take others, or the same for both",
        ),
        (
            "policy: {internal: '*0000222'}",
            "policy.internal[0]: '*0000222' has a * that is not at its end: a pattern is a whole text (2001),"
            " a beginning (+4420*), digits (2xx), a range (200-299) or an expression (/.*222/; /\\*72/ for a"
            " * itself)",
        ),
        ("privacy: {pause: {max_s: -1}}", "privacy.pause.max_s: must be at least 0.0, is -1"),
        ("siprec:", "siprec: not available in this version"),
        ("capture: 5", "capture: must be keys and values, is 5"),
        ("capture: {interfaces: any}", "capture.interfaces: must be auto or a list such as [eth0], is 'any'"),
        ("capture: {interfaces: []}", "capture.interfaces: must not be empty"),
        ("capture: {tunnels: gre}", "capture.tunnels: must be auto or a list such as [vxlan], is 'gre'"),
        ("capture: {tunnels: [gre, gre]}", "capture.tunnels: given twice: gre"),
        (
            "capture: {tunnels: [gre, wires]}",
            "capture.tunnels[1]: must be 'mpls', 'pppoe', 'gre', 'erspan', 'ipip', 'vxlan', 'geneve', 'tzsp'"
            " or 'l2tp', is 'wires'",
        ),
        (
            "capture: {tunnel_ports: {gre: [1]}}",
            "capture.tunnel_ports.gre: unknown key; known here: geneve, l2tp, tzsp, vxlan",
        ),
        ("capture: {interfaces: [eth0, eth0]}", "capture.interfaces: given twice: eth0"),
        ("capture: {interfaces: [5]}", "capture.interfaces[0]: must be text, is 5 (quotes make it text)"),
        ("capture: {interfaces: [a/b]}", "capture.interfaces[0]: 'a/b' cannot be the name of an interface"),
        ("capture: {sip_ports: []}", "capture.sip_ports: must not be empty"),
        ("capture: {ws_ports: [80, 80]}", "capture.ws_ports: given twice: 80"),
        ("capture: {hep_ports: [0]}", "capture.hep_ports[0]: must be at least 1, is 0"),
        (
            "capture: {hep: {listen: [udp:0.0.0.0]}}",
            "capture.hep.listen[0]: must be udp:ADDRESS:PORT or tcp:ADDRESS:PORT, is 'udp:0.0.0.0'",
        ),
        (
            "capture: {hep: {listen: ['tcp:1.2.3.400:9060']}}",
            "capture.hep.listen[0]: must be udp:ADDRESS:PORT or tcp:ADDRESS:PORT, is 'tcp:1.2.3.400:9060'",
        ),
        (
            "capture: {hep: {allow: [10.0.0.1/8]}}",
            "capture.hep.allow[0]: must be a network such as 10.0.0.0/8: 10.0.0.1/8 has host bits set",
        ),
        ("capture: {hep: {password: ''}}", "capture.hep.password: must not be empty"),
        ("capture: {sip_ports: 5060}", "capture.sip_ports: must be a list, is 5060"),
        ("capture: {sip_ports: [0]}", "capture.sip_ports[0]: must be at least 1, is 0"),
        ("capture: {sip_ports: [65536]}", "capture.sip_ports[0]: must be at most 65535, is 65536"),
        ("capture: {sip_ports: [true]}", "capture.sip_ports[0]: must be a whole number, is true"),
        ("capture: {media_ring_mb: 0}", "capture.media_ring_mb: must be at least 1, is 0"),
        ("capture: {media_ring_mb: 1.5}", "capture.media_ring_mb: must be a whole number, is 1.5"),
        ("capture: {media_frame_bytes: 1000}", "capture.media_frame_bytes: must be a power of two, is 1000"),
        ("capture: {grace_ms: -1}", "capture.grace_ms: must be at least 0, is -1"),
        ("capture: {pending_s: .inf}", "capture.pending_s: must be a number, is inf"),
        ("quality: {gap_s: 0}", "quality.gap_s: must be more than 0.0, is 0"),
        ("quality: {low_dbov: 3}", "quality.low_dbov: must be at most 0.0, is 3"),
        ("quality: {low_dbov: low}", "quality.low_dbov: must be a number, is 'low'"),
        ("alerts: {syslog: {enabled: 1}}", "alerts.syslog.enabled: must be true or false, is 1"),
        (
            "alerts: {syslog: {address: localhost}}",
            "alerts.syslog.address: must be the path of a socket or HOST:PORT (UDP), is 'localhost'",
        ),
        (
            "alerts: {syslog: {address: 'h:70000'}}",
            "alerts.syslog.address: must be the path of a socket or HOST:PORT (UDP), is 'h:70000'",
        ),
        (
            "alerts: {syslog: {facility: local8}}",
            "alerts.syslog.facility: 'local8' is no syslog facility;"
            " such are daemon, user and local0 to local7",
        ),
        ("sync: {remotes: [{name: a, type: file}]}", "sync.remotes[0].path: required"),
        (
            "sync: {remotes: [{name: a, type: s4, path: /a}]}",
            "sync.remotes[0].type: must be 'file', 's3', 'sftp' or 'webdav', is 's4'",
        ),
        ("sync: {remotes: [{name: a, path: /a}]}", "sync.remotes[0].type: required"),
        ("sync: {remotes: [a]}", "sync.remotes[0]: must be keys and values, is 'a'"),
        (
            "sync: {remotes: [{name: a, type: sftp, host: h, user: u, identity_file: k, host_keys: []}]}",
            "sync.remotes[0].host_keys: must not be empty",
        ),
        (
            "sync: {remotes: [{name: a, type: sftp, host: h, user: u, identity_file: k, host_keys: [any]}]}",
            "sync.remotes[0].host_keys[0]: must be a fingerprint (SHA256:...)"
            " or a key line (ssh-ed25519 AAAA...)",
        ),
        (
            "sync: {remotes: [{name: a, type: webdav, url: 'http://h/x'}]}",
            "sync.remotes[0]: url: must be https (or set allow_http)",
        ),
        (
            "sync: {remotes: [{name: a, type: webdav, url: 'https://h/x', dev: true}]}",
            "sync.remotes[0].dev: unknown key; did you mean dav?",
        ),
        (
            "sync: {remotes: [{name: a, type: file, path: /a}, {name: a, type: file, path: /b}]}",
            "sync.remotes: given twice: a",
        ),
        ("sync: {remotes: {}}", "sync.remotes: must be a list, is {}"),
        (
            "encryption: {recipients: [a], suite: rsa}",
            "encryption.suite: must be 'mlkem768-x25519' or 'x25519', is 'rsa'",
        ),
        ("sync: {interval_s: 0}", "sync.interval_s: must be at least 0.1, is 0"),
        ("control: {socket: ''}", "control.socket: must be a path, not empty"),
        ("site: {name: ''}", "site.name: must not be empty"),
        ("site: {name: !!python/name:os.system ''}", None),
        ("? [a, b]\n: 1", ": a key must be a word"),
        ("site: {name: 2026-13-45}", None),
    ],
)
def test_a_wrong_value_is_told_with_line_and_key(added: str, fault: str | None) -> None:
    base = SMALL.split("encryption")[0] + "\n" if added.startswith("encryption") else SMALL
    [line] = faults(base + added)
    assert line.startswith("c.yaml:3")
    if fault is not None:
        assert line == f"c.yaml:3{'' if fault.startswith(':') else ' '}{fault}"


def test_the_same_keys_may_pause_and_resume() -> None:
    pause = parse(SMALL + "\nprivacy: {pause: {pause_keys: '*7', resume_keys: '*7'}}").privacy.pause
    assert pause.pause_keys == pause.resume_keys == "*7"


def test_what_is_required() -> None:
    for nothing in ("", "# nothing", "null", "!", "{}"):
        assert faults(nothing) == ["c.yaml:1 encryption: required", "c.yaml:1 spool: required"]
    assert faults("encryption: {}\nspool: {}") == [
        "c.yaml:1 encryption.recipients: required",
        "c.yaml:2 spool.path: required",
    ]
    assert faults(SMALL.replace("keys/vault.pub", "")) == [
        "c.yaml:2 encryption.recipients: must not be empty"
    ]


def test_all_faults_come_at_once_in_the_order_of_the_file() -> None:
    text = "capture:\n  grace_ms: x\n  sip_ports:\n  - 5060\n  - 0\nspool:\n  pth: /a\nencryption: 5\n"
    assert faults(text) == [
        "c.yaml:2 capture.grace_ms: must be a whole number, is 'x'",
        "c.yaml:5 capture.sip_ports[1]: must be at least 1, is 0",
        "c.yaml:6 spool.path: required",
        "c.yaml:7 spool.pth: unknown key; did you mean path?",
        "c.yaml:8 encryption: must be keys and values, is 5",
    ]


def test_a_key_given_twice_is_refused_where_it_stands_again() -> None:
    assert faults(SMALL + "spool: {path: /b}") == ["c.yaml:3 spool: given twice (first on line 1)"]
    text = SMALL + "capture:\n  grace_ms: 1\n  grace_ms: 2\n"
    assert faults(text) == ["c.yaml:5 capture.grace_ms: given twice (first on line 4)"]


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("spool: [", "c.yaml:1: not YAML: "),
        ("a: 1\n\tb: 2", "c.yaml:2: not YAML: "),
        ("a: 1\n---\nb: 2", "c.yaml:2: not YAML: "),
        ("- a", "c.yaml:1: must be keys and values"),
        ("just text", "c.yaml:1: must be keys and values"),
        ("a: &x 1\nb: *x", "c.yaml:1: anchors and aliases"),
        ("x: " + "[" * 1200, "c.yaml:1: nested too deeply"),
        (b"a: 1\nb: \xff\xfe", "c.yaml:2: not YAML: "),
        (b"a: 1\nb: \x00", "c.yaml:2: not YAML: "),
        ("#" * 300_000, "c.yaml:1: larger than 256 kB"),
    ],
)
def test_what_is_no_configuration_at_all(text: str | bytes, start: str) -> None:
    [line] = faults(text)
    assert line.startswith(start)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml: cannot be read: No such file"):
        load_config(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load_config(tmp_path)


def test_paths_are_taken_from_the_folder_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/recorderd.yaml").write_text(SMALL)
    monkeypatch.chdir(tmp_path)
    config = load_config("etc/recorderd.yaml")
    assert config.spool.path == tmp_path / "etc/spool"
    assert config.where("spool", "path") == "etc/recorderd.yaml:1 spool.path"


@pytest.mark.parametrize("name", ["recorderd.yaml", "small.yaml"])
def test_the_examples_load(name: str) -> None:
    folder = Path(__file__).parent.parent / "config"
    assert load_config(folder / name).encryption.recipients


WORDS = st.sampled_from(
    [
        "spool",
        "path",
        "encryption",
        "recipients",
        "sync",
        "remotes",
        "capture",
        "interfaces",
        "auto",
        "type",
        "file",
    ]
)
MARKS = st.sampled_from(
    [":", ": ", "\n", "  ", "- ", "[", "]", "{", "}", ",", "&a", "*a", "'", '"', "!", "|", "<<", "~"]
)


@given(st.lists(WORDS | MARKS | st.text(max_size=3) | st.integers().map(str), max_size=30).map("".join))
def test_any_text_gives_a_configuration_or_lines_of_faults(text: str) -> None:
    told = "c.yaml:1:"
    with contextlib.suppress(ConfigError):
        try:
            parse_config(text.encode("utf-8", "surrogatepass"), "c.yaml", BASE)
        except ConfigError as error:
            told = str(error)
            raise
    assert all(re.match(r"c\.yaml:\d+[ :]", line) for line in told.splitlines())


@given(st.binary(max_size=60))
def test_any_bytes_give_a_configuration_or_lines_of_faults(data: bytes) -> None:
    with pytest.raises(ConfigError, match=r"^c\.yaml:\d+[ :]"):
        parse_config(data, "c.yaml", BASE)
