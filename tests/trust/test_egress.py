from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minikin.trust.egress import KINDS, NOT_ALLOWED, Egress, iban, luhn

OPEN = Egress(allow=True)

LEAVES_AS = [
    ("where is my parcel?", "where is my parcel?", ()),
    ("write to Ann.Lee+x@mail.example.co.uk please", "write to [email] please", ("email",)),
    ("card 4111 1111 1111 1111 expired", "card [card] expired", ("card",)),
    ("card 4111-1111-1111-1111 expired", "card [card] expired", ("card",)),
    ("12 4111 1111 1111 1111 12/26", "12 [card] 12/26", ("card",)),
    ("IBAN DE89 3704 0044 0532 0130 00 thanks", "IBAN [iban] thanks", ("iban",)),
    ("iban gb82west12345698765432", "iban [iban]", ("iban",)),
    ("call +44 20 7946 0958", "call [phone]", ("phone",)),
    ("call (020) 7946-0958 now", "call [phone] now", ("phone",)),
    ("account 12345678", "account [phone]", ("phone",)),
    ("my contract AB-123456 ended", "my contract [account] ended", ("account",)),
    ("４１１１ １１１１ １１１１ １１１１", "[card]", ("card",)),
    ("4111\u200b1111\u200b1111\u200b1111", "[card]", ("card",)),
    ("I ordered 2 of 150 in 2024", "I ordered 2 of 150 in 2024", ()),
]


@pytest.mark.parametrize(("text", "leaves", "found"), LEAVES_AS)
def test_what_leaves(text: str, leaves: str, found: tuple[str, ...]) -> None:
    verdict = OPEN.verdict(text)
    assert (verdict.text, verdict.found) == (leaves, found)


@pytest.mark.parametrize("text", [text for text, _, found in LEAVES_AS if found])
def test_kept_at_home_instead_of_redacted(text: str) -> None:
    verdict = Egress(allow=True, redact=False).verdict(text)
    assert verdict.text is None
    assert verdict.found[0] in verdict.reason


def test_nothing_leaves_unless_it_is_allowed() -> None:
    for text in ("", "harmless", ("a", "b")):
        verdict = Egress().verdict(text)
        assert (verdict.text, verdict.reason) == (None, NOT_ALLOWED)


@pytest.mark.parametrize(
    ("text", "leaves"),
    [
        ("my password: hunter2, and more", "my [field], and more"),
        ("Password is hunter2", "[field]"),
        ('{"password": "hunter 2", "x": 1}', '{"[field], "x": 1}'),
        ("customer no = AB7 please", "[field] please"),
        ("passwords are hard", "passwords are hard"),
    ],
)
def test_values_of_named_fields(text: str, leaves: str) -> None:
    assert Egress(allow=True, fields=["password", "customer no"]).verdict(text).text == leaves


def test_patterns_of_ones_own_and_kinds_left_out() -> None:
    rule = Egress(allow=True, never=(), patterns={"ticket": r"TCK-\d+"})
    assert rule.verdict("TCK-77 from a@b.example").text == "[ticket] from a@b.example"
    with pytest.raises(KeyError, match="no kind 'shoe'"):
        Egress(never=["shoe"])


def test_both_texts_of_a_pair() -> None:
    assert OPEN.verdict(("a@b.example", "ok")).text == ("[email]", "ok")


@pytest.mark.parametrize(
    ("number", "right"), [("4111111111111111", True), ("4111111111111112", False), ("79927398713", True), ("0", False)]
)
def test_luhn(number: str, right: bool) -> None:
    assert luhn(number) is right


@pytest.mark.parametrize(("number", "right"), [("GB82 WEST 1234 5698 7654 32", True), ("GB83WEST1234569", False)])
def test_iban(number: str, right: bool) -> None:
    assert iban(number) is right


WORD = st.text("abcxyz09", min_size=1, max_size=8)


@given(st.text(max_size=40), st.text(max_size=40), WORD, WORD)
def test_no_address_ever_leaves(before: str, after: str, name: str, host: str) -> None:
    left = OPEN.verdict(f"{before} {name}@{host}.com {after}").text
    assert isinstance(left, str)
    assert not re.search(KINDS["email"], left)


@given(st.lists(st.integers(0, 9), min_size=12, max_size=15), st.sampled_from(["", " ", "-"]))
def test_no_card_ever_leaves(digits: list[int], between: str) -> None:
    check = next(c for c in range(10) if luhn("".join(map(str, [*digits, c]))))
    left = OPEN.verdict("pay " + between.join(map(str, [*digits, check])) + " now").text
    assert isinstance(left, str)
    assert not any(c.isdigit() for c in left)


def test_long_texts_are_searched_quickly() -> None:
    for text in ("1 " * 9_000, "a@" * 9_000, "a.b-" * 9_000 + "@", "DE89" + " 1A" * 9_000):
        started = time.process_time()
        OPEN.verdict(text)
        assert time.process_time() - started < 2
