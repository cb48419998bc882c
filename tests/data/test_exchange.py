"""Exchanged phrases: what is exchanged follows from counting, the answer follows the prompt, nothing else changes."""

from __future__ import annotations

import json

import numpy as np
import pytest

from minikin.data.exchange import Exchanges

ROOMS, DEVICES = ("kitchen", "hall", "office", "garage"), ("fan", "lamp", "radio")
ROWS = [
    (f"turn the {room} {device} {action} please", {"device": device, "room": room, "action": action})
    for room in ROOMS
    for device in DEVICES
    for action in ("on", "off")
    if (room, device) != ("garage", "radio")
]


def known(separators: tuple[str, str] = (",", ":")) -> tuple[Exchanges, list[tuple[str, str]]]:
    rows = [(prompt, json.dumps(answer, separators=separators)) for prompt, answer in ROWS]
    return Exchanges(*map(list, zip(*rows, strict=True))), rows


def made(exchanges: Exchanges, prompt: str, answer: str, draws: int = 200) -> set[tuple[str, str]]:
    rng = np.random.default_rng(0)
    found = (exchanges.another(prompt, answer, rng) for _ in range(draws))
    return {pair for pair in found if pair is not None}


def test_prompt_and_answer_change_together() -> None:
    exchanges, rows = known()
    truth = {f"turn the {r} {d} {a} please": (r, d, a) for r in ROOMS for d in DEVICES for a in ("on", "off")}
    new = made(exchanges, *rows[0])
    assert len(new) > 10
    for prompt, answer in new:
        told = json.loads(answer)
        assert truth[prompt] == (told["room"], told["device"], told["action"])
        assert list(told) == ["device", "room", "action"]


def test_values_never_seen_together_are_not_mixed() -> None:
    exchanges, rows = known()
    for prompt, answer in rows:
        for _, new in made(exchanges, prompt, answer, 40):
            told = json.loads(new)
            assert (told["room"], told["device"]) != ("garage", "radio")


def test_the_spacing_of_the_answer_stays() -> None:
    exchanges, rows = known((", ", ": "))
    assert all('", "' in answer and '": "' in answer for _, answer in made(exchanges, *rows[0]))


def test_inner_objects_and_numbers_are_exchanged_too() -> None:
    rows = [
        (f"set {where} to {n} now", json.dumps({"call": {"room": where, "value": n}, "ok": True}))
        for where in ROOMS
        for n in (10, 20, 30, 40)
    ]
    exchanges = Exchanges([p for p, _ in rows], [a for _, a in rows])
    for prompt, answer in made(exchanges, *rows[0]):
        _, where, _, n, _ = prompt.split()
        assert json.loads(answer) == {"call": {"room": where, "value": int(n)}, "ok": True}


@pytest.mark.parametrize("answer", ["the hall", "[1, 2]", '{"a":1, "b" : 2}', "{", "3"])
def test_other_answers_have_no_exchanges(answer: str) -> None:
    exchanges = Exchanges(["turn the hall fan on"] * 8, [answer] * 8)
    assert exchanges.another("turn the hall fan on", answer, np.random.default_rng(0)) is None


def test_the_same_draws_give_the_same_example() -> None:
    exchanges, rows = known()
    drawn = [exchanges.another(*rows[3], np.random.default_rng(7)) for _ in range(2)]
    assert drawn[0] == drawn[1] != None  # noqa: E711
    assert known()[0].another(*rows[3], np.random.default_rng(7)) == drawn[0]


HOURS = ("five", "six", "seven", "eight", "nine", "ten")
MINUTES = {"ten past": (0, 10), "twenty past": (0, 20), "ten to": (-1, 50), "twenty to": (-1, 40)}


def clock(words: str, hour: str) -> str:
    """`ten to six` as `05:50`."""
    back, minute = MINUTES[words]
    return f"{HOURS.index(hour) + 5 + back:02d}:{minute:02d}"


def test_hours_and_minutes_of_a_time_are_exchanged_apart_and_stay_true() -> None:
    rows = [
        (f"wake me at {words} {hour} {tail}", json.dumps({"device": "wake", "time": clock(words, hour)}))
        for words in MINUTES
        for hour in HOURS
        for tail in ("please", "today", "then")
        if (words, hour) not in {("ten to", "nine"), ("twenty past", "six")}
    ]
    exchanges = Exchanges([p for p, _ in rows], [a for _, a in rows])
    seen = {p for p, _ in rows}
    new = {pair for prompt, answer in rows for pair in made(exchanges, prompt, answer, 40)}
    assert {p for p, _ in new} - seen  # times never said before
    for prompt, answer in new:
        _, _, _, one, two, hour, _ = prompt.split()
        assert json.loads(answer) == {"device": "wake", "time": clock(f"{one} {two}", hour)}


def test_words_that_would_contradict_the_answer_are_no_example() -> None:
    """Each device has its words for stopping, which stay behind when only its name is exchanged."""
    rows = [
        (f"{verb} the {device} in the {room}", json.dumps({"device": device, "room": room, "action": "stop"}))
        for verb, device in (("quit", "fan"), ("halt", "washer"))
        for room in ROOMS
    ] * 2
    exchanges = Exchanges([p for p, _ in rows], [a for _, a in rows])
    for prompt, answer in rows:
        for new_prompt, _ in made(exchanges, prompt, answer, 40):
            assert new_prompt.split()[::2][:2] in (["quit", "fan"], ["halt", "washer"])


def test_a_phrase_that_was_seen_with_two_hours_rules_out_a_third() -> None:
    """`to six` means 05 or 17: no word decides the hour, and still `past six` must not become `to six` and leave 06."""
    rows = [
        (f"wake me at {words} {hour} {tail}", json.dumps({"time": f"{int(said[:2]) + late:02d}:{said[3:]}"}))
        for words in MINUTES
        for hour in HOURS
        for said in [clock(words, hour)]
        for late, tail in ((0, "please"), (0, "then"), (12, "now"), (12, "again"))
    ]
    exchanges = Exchanges([p for p, _ in rows], [a for _, a in rows])
    new = {pair for prompt, answer in rows for pair in made(exchanges, prompt, answer, 20)}
    assert len(new) > 20
    for prompt, answer in new:
        _, _, _, one, two, hour, _ = prompt.split()
        hour_said, minute_said = json.loads(answer)["time"].split(":")
        assert f"{int(hour_said) % 12:02d}:{minute_said}" == clock(f"{one} {two}", hour)
