"""Whatever is understood without argparse is understood as argparse would."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nsbridge.frontends.cli.parser import Usage, parser_for
from nsbridge.frontends.cli.plain import arguments
from nsbridge.frontends.cli.table import verbs
from nsbridge.frontends.cli.verb import Verb

WORDS = ("lab", "ns1", "8088:80", "10.9.0.7", "-", "--", "", "x=y", "-1", "--json=yes", "-p80")


def test_options_of_a_hot_verb() -> None:
    (verb,) = [each for each in verbs() if each.name == "connect"]
    args = arguments(verb, "--name web -p 8088:80 -p 53:53/udp lab ns1 --json".split())
    assert args is not None
    assert vars(args)["publish"] == ["8088:80", "53:53/udp"]
    assert (vars(args)["network"], vars(args)["netns"], vars(args)["json"]) == ("lab", "ns1", True)


@pytest.mark.parametrize(
    "line", ["lab", "lab ns1 more", "lab ns1 --unknown", "lab ns1 --name", "--help", "-- lab ns1", "lab ns1 --name=x"]
)
def test_doubts_are_left_to_argparse(line: str) -> None:
    (verb,) = [each for each in verbs() if each.name == "connect"]
    assert arguments(verb, line.split()) is None


@st.composite
def lines(draw: st.DrawFn) -> tuple[Verb, list[str]]:
    verb = draw(st.sampled_from(verbs()))
    flags = [flag for one in verb.arguments if not one.positional for flag in one.flags]
    return verb, draw(st.lists(st.sampled_from((*WORDS, *flags)), max_size=6))


@settings(max_examples=1000, deadline=None)
@given(lines())
def test_plain_lines_mean_what_argparse_says(line: tuple[Verb, list[str]]) -> None:
    verb, words = line
    plain = arguments(verb, words)
    if plain is None:
        return
    try:
        whole = parser_for(verb).parse_args(words)
    except Usage as err:
        pytest.fail(f"argparse refuses {words}: {err}")
    assert vars(plain) == vars(whole)


@pytest.mark.parametrize("verb", [each for each in verbs() if each.examples], ids=lambda verb: verb.name)
def test_examples_mean_what_argparse_says(verb: Verb) -> None:
    for example in verb.examples:
        words = example.split()[len(verb.name.split()) :]
        plain = arguments(verb, words)
        assert plain is None or vars(plain) == vars(parser_for(verb).parse_args(words))
