"""Which calls are recorded: patterns, rules, and what a regular expression may not be."""

import time
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorderd.calls.patterns import MAX_TEXT, MAX_WAYS, pattern
from recorderd.calls.policy import CallFacts, Policy, share
from recorderd.config.policy import PolicyConfig

NOON = int(datetime(2026, 11, 23, 12, 0, tzinfo=UTC).timestamp()) * 1_000_000_000  # a Monday
HOUR = 3600 * 1_000_000_000


def facts(
    from_user="2001",
    to_user="2002",
    source="10.0.0.5",
    destination="10.0.0.1",
    call_id="c1@x",
    time_ns=NOON,
    **headers,
) -> CallFacts:
    named = {name.replace("_", "-"): [value] for name, value in headers.items()}
    return CallFacts(call_id, from_user, to_user, source, destination, named, time_ns)


def policy(*rules: dict, **rest) -> Policy:
    named = [{"name": f"r{number}", "action": "exclude", **rule} for number, rule in enumerate(rules)]
    return PolicyConfig.model_validate({"rules": named, **rest}).policy()


def excluded(match: dict, *calls: CallFacts, **rest) -> list[bool]:
    made = policy({"match": match}, **rest)
    return [made.decide(call).excluded for call in calls]


@pytest.mark.parametrize(
    ("written", "fits", "not_so"),
    [
        ("2001", ["2001"], ["20011", "200", "", "x2001"]),
        ("+4420*", ["+4420", "+442071234"], ["4420", "+441"]),
        ("*", ["", "anything"], []),
        ("2xx", ["200", "299"], ["20", "2000", "2ab", "2xx", "2٣٤"]),
        ("+492X*", ["+4920", "+4929555"], ["+492", "+493"]),
        ("200-299", ["200", "250", "299"], ["300", "199", "0250", "2500", "25", "+250"]),
        ("+4420-+4425", ["+4422"], ["4422", "+4426"]),
        ("alice", ["alice"], ["Alice", "alicex"]),
        ("/[Ss]upport.*/", ["support", "Support-2"], ["my support"]),
        ("/(?:00|\\+)44[0-9]{4,6}/", ["00441234", "+44123456"], ["441234", "+441234567"]),
    ],
)
def test_patterns(written, fits, not_so):
    matches = pattern(written)
    assert [text for text in fits if not matches(text)] == []
    assert [text for text in not_so if matches(text)] == []


@pytest.mark.parametrize("written", ["*0000222", "*72", "+44*20", "2x*x", "+4420*x*", "2**", "**"])
def test_a_star_elsewhere_than_at_the_end_is_refused(written):
    """It would be taken for what it looks like, and match nothing that anybody dials."""
    with pytest.raises(ValueError, match="not at its end: a pattern is a whole text"):
        pattern(written)


def test_a_feature_code_is_an_expression():
    assert pattern("/\\*72/")("*72")


@pytest.mark.parametrize(
    "written",
    [
        "", "x" * 257, "300-200", "20-300", "/(a+)+/", "/(a|a)*b/", "/(?=a)a/", "/(a)\\1/", "/a*a*a*/", "/[/",
        "/a**/", "/(?P<n>a)/", "/.*.*.*/", "/" + "a?" * 30 + "a" * 30 + "/", "/(?i)a/", "/a{999999}/",
    ],
)  # fmt: skip
def test_patterns_that_are_refused(written):
    with pytest.raises(ValueError):
        pattern(written)


_PARTS = st.recursive(
    st.sampled_from(["a", "b", ".", "[ab]", "\\d", "\\.", "a{2}"]),
    lambda inner: st.one_of(
        st.tuples(inner, inner).map("".join),
        st.tuples(inner, inner).map(lambda two: f"(?:{two[0]}|{two[1]})"),
        st.tuples(inner, st.sampled_from(["?", "*", "+", "{1,3}"])).map("".join),
        inner.map(lambda one: f"({one})"),
    ),
    max_leaves=12,
)


@given(_PARTS, st.text("ab.0", max_size=MAX_TEXT + 20))
def test_what_is_taken_is_quick(expression, text):
    """Whatever a peer calls itself."""
    try:
        matches = pattern(f"/{expression}/")
    except ValueError:
        return
    began = time.thread_time()
    matches(text)
    matches("a" * MAX_TEXT + "!")
    assert time.thread_time() - began < 0.5


def test_the_dearest_expression_that_is_taken():
    matches = pattern("/.*a.*b/")
    began = time.thread_time()
    assert not matches("a" * 1000)
    assert time.thread_time() - began < 0.1
    assert (MAX_TEXT + 1) ** 2 <= MAX_WAYS < (MAX_TEXT + 1) ** 3


def test_without_rules_the_default_decides():
    assert not policy().decide(facts()).excluded
    assert policy().trivial
    decided = policy(default="exclude").decide(facts())
    assert (decided.excluded, decided.reason) == (True, "policy: default")


def test_the_first_rule_that_fits_decides():
    made = policy(
        {"name": "bosses", "match": {"number": "2001"}, "action": "record"},
        {"name": "inside", "match": {"direction": "internal"}},
        default="record",
        internal=["2xxx"],
    )
    assert made.decide(facts()).rule == "bosses"
    decided = made.decide(facts("2003", "2004"))
    assert (decided.action, decided.reason) == ("exclude", "policy: rule inside")
    assert made.decide(facts("2003", "0049")).rule == "default"


def test_all_that_a_rule_asks_must_be_met():
    match = {"from": ["2xxx", "3xxx"], "header": {"X-Tenant": "gold*"}}
    calls = [facts(x_tenant="golden"), facts(x_tenant="silver"), facts(), facts("4000", x_tenant="gold")]
    assert excluded(match, *calls) == [True, False, False, False]
    assert excluded({"header": {"x-tenant": "*"}}, facts(x_tenant=""), facts()) == [True, False]


def test_numbers_are_compared_without_their_separators():
    assert excluded({"from": "+44201234"}, facts("+44 (20) 12-34"), facts("+44-alice")) == [True, False]


def test_directions():
    numbers, networks = {"internal": ["2xxx"]}, {"internal": ["10.0.0.0/8", "fd00::/8"]}
    calls = [
        facts("2001", "2002"), facts("2001", "0049"), facts("0049", "2001", source="192.0.2.1"),
        facts("0049", "0050", source="192.0.2.1", destination="192.0.2.2"),
    ]  # fmt: skip
    wanted = ["internal", "outbound", "inbound", "transit"]
    assert [policy(**numbers).direction(call) for call in calls] == wanted
    assert [policy(**networks).direction(call) for call in calls] == [
        "internal",
        "internal",
        "inbound",
        "transit",
    ]
    # The trunk's calls come from outside, by whatever number.
    both = policy(internal=["2xxx", "10.0.0.0/8"])
    assert both.direction(facts("0049", "2001", source="10.0.0.5")) == "internal"


def test_the_address_of_a_trunk():
    calls = [facts(source="192.0.2.7"), facts(destination="192.0.2.8"), facts(), facts(source="no.address")]
    assert excluded({"address": "192.0.2.0/24"}, *calls) == [True, True, False, False]


def test_hours_and_days():
    match = {"time": "08:00-18:00", "days": "mon-fri"}
    calls = [facts(time_ns=NOON + hours * HOUR) for hours in (0, 5.99, 6, -5, 5 * 24)]
    assert excluded(match, *calls) == [True, True, False, False, False]


def test_a_night_belongs_to_the_day_it_began_on():
    match = {"time": "22:00-06:00", "days": "sun"}
    # Sunday 21:00, 22:00, Monday 05:00, 06:00, 23:00, Sunday 03:00
    calls = [facts(time_ns=NOON + hours * HOUR) for hours in (-15, -14, -7, -6, 11, -33)]
    assert excluded(match, *calls) == [False, True, True, False, False, False]


def test_hours_are_of_the_zone():
    match = {"time": "13:00-13:30"}
    assert excluded(match, facts(), timezone="Europe/Berlin") == [True]
    assert excluded(match, facts()) == [False]
    summer = int(datetime(2026, 7, 1, 13, 10, tzinfo=ZoneInfo("Europe/Berlin")).timestamp()) * 10**9
    assert excluded(match, facts(time_ns=summer), timezone="Europe/Berlin") == [True]


def test_a_percentage_is_drawn_by_call_id_and_always_alike():
    drawn = excluded({"percentage": 30}, *(facts(call_id=f"{number}@pbx") for number in range(4000)))
    assert 0.27 < sum(drawn) / len(drawn) < 0.33
    assert drawn == excluded({"percentage": 30}, *(facts(call_id=f"{number}@pbx") for number in range(4000)))
    assert excluded({"percentage": 0}, facts()) == [False]
    assert excluded({"percentage": 100}, facts()) == [True]


@given(st.text(), st.text(min_size=1))
def test_a_share_is_one(call_id, rule):
    assert 0 <= share(call_id, rule) < 100


@given(st.text(max_size=300), st.text(max_size=300), st.text(max_size=50))
def test_no_peer_can_break_a_rule(from_user, to_user, host):
    match = {
        "number": ["2xx", "200-299", "/[0-9]*.*a/"], "address": ["10.0.0.0/8"], "header": {"x": "y"},
        "direction": "internal",
    }  # fmt: skip
    made = policy({"match": match}, internal=["2xx", "10.0.0.0/8"])
    made.decide(facts(from_user, to_user, host, host, call_id=from_user))


def test_what_is_not_known_any_more_leaves_several_decisions():
    made = policy(
        {"name": "gold", "match": {"header": {"x": "gold"}}, "action": "record"},
        {"name": "inside", "match": {"from": "2xxx"}},
        {"name": "trunk", "match": {"address": "192.0.2.0/24"}},
    )
    old = CallFacts("c", "2001", "3", "", "", None, NOON)
    assert [decision.rule for decision in made.possible(old)] == ["gold", "inside"]
    assert [decision.rule for decision in made.possible(facts())] == ["inside"]
    elsewhere = CallFacts("c", "3001", "3", "", "", {}, NOON)
    assert [decision.rule for decision in made.possible(elsewhere)] == ["trunk", "default"]


def test_a_number_that_is_not_known_any_more_leaves_several_decisions():
    made = policy(
        {"name": "to", "match": {"to": "3xxx"}, "action": "record"},
        {"name": "either", "match": {"number": ["2002", "2xx"]}},
        {"name": "own", "match": {"direction": "internal"}},
        internal=["2xxx", "10.0.0.0/8"],
    )

    def rules(caller, callee, source="192.0.2.1"):
        old = CallFacts("c", caller, callee, source, "192.0.2.2", {}, NOON)
        return [decision.rule for decision in made.possible(old)]

    assert rules(None, "3001") == ["to"]
    assert rules(None, "2002") == ["either"]
    assert rules(None, "2003") == ["either", "own", "default"]
    assert rules(None, "2003", "10.0.0.1") == ["either", "own"]
    assert rules("2001", None) == ["to", "either", "own", "default"]
