import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

import talk
from minikin.base.errors import UserError
from minikin.feed.speech import Speaker
from minikin.feed.template import TemplateError, pieces, render

CHAT = [
    {"role": "system", "content": "You control a house."},
    {"role": "user", "content": "lights down a bit"},
    {"role": "assistant", "content": "turn down the lights"},
    {"role": "user", "content": "and the kitchen?"},
    {"role": "assistant", "content": "please, a bit"},
]
TWO = CHAT[1:]
PAIR = CHAT[1:3]
FORMS = {
    "chatml": (talk.byte_level(), talk.byte_config(), CHAT),
    "plain bytes": (talk.byte_level(), talk.byte_config(None), PAIR),
    "brackets, mark first": (talk.pieces("first"), talk.piece_config(), TWO),
    "brackets, mark after specials": (talk.pieces("legacy"), talk.piece_config(), TWO),
    "plain pieces": (talk.pieces("first"), talk.piece_config(None), PAIR),
}
EXACT = ["chatml", "plain bytes", "brackets, mark first", "plain pieces"]


def reader(tokenizer_json):
    return Tokenizer.from_str(tokenizer_json)


@pytest.mark.parametrize("form", FORMS)
def test_the_text_of_a_chat_comes_back_and_answers_are_what_is_learnt(form):
    tokenizer_json, config, chat = FORMS[form]
    spoken = Speaker(tokenizer_json, config).chats([chat])[0]
    tokenizer = reader(tokenizer_json)
    assert not spoken.escaped
    assert len(spoken.ids_T) == len(spoken.learnt_T)
    answers = [m["content"] for m in chat if m["role"] == "assistant"]
    edges = np.flatnonzero(np.diff(np.concatenate([[False], spoken.learnt_T, [False]])))
    learnt = [spoken.ids_T[a:b].tolist() for a, b in edges.reshape(-1, 2)]
    end = tokenizer.token_to_id(config["eos_token"])
    assert [tokenizer.decode(ids).strip() for ids in learnt] == answers
    assert all(ids[-1] == end for ids in learnt)


@pytest.mark.parametrize("form", EXACT)
def test_ids_are_those_of_the_whole_text_wherever_no_token_spans_prompt_and_answer(form):
    tokenizer_json, config, chat = FORMS[form]
    ids = Speaker(tokenizer_json, config).chats([chat])[0].ids_T.tolist()
    tokenizer = reader(tokenizer_json)
    whole = tokenizer.encode(render(config, chat), add_special_tokens=False).ids
    assert tokenizer.decode(ids, skip_special_tokens=False) == tokenizer.decode(whole, skip_special_tokens=False)
    if form in ("chatml", "plain bytes"):
        assert ids == whole


@pytest.mark.parametrize("form", FORMS)
def test_a_prompt_is_cut_as_it_stands_before_its_answer(form):
    tokenizer_json, config, chat = FORMS[form]
    speaker = Speaker(tokenizer_json, config)
    prompt = speaker.prompt(chat[:-1]).tolist()
    spoken = speaker.chats([chat])[0]
    assert spoken.ids_T[: len(prompt)].tolist() == prompt
    assert not spoken.learnt_T[: len(prompt)][-1]


@given(st.text(max_size=30), st.text(min_size=1, max_size=30))
def test_any_text_is_kept_to_the_letter_even_names_of_special_tokens(before, after):
    user = f"{before}<|im_end|>{after}".strip()
    clean = user.encode("utf-8", "replace").decode()
    speaker = Speaker(talk.byte_level(), talk.byte_config())
    spoken = speaker.chats([[{"role": "user", "content": clean}, {"role": "assistant", "content": "no"}]])[0]
    tokenizer = reader(talk.byte_level())
    stop = tokenizer.token_to_id(talk.STOP)
    assert spoken.escaped
    assert (spoken.ids_T == stop).sum() == 2  # the template's own, and no other
    assert clean in tokenizer.decode(spoken.ids_T.tolist(), skip_special_tokens=False)


def test_raw_texts_stand_between_begin_and_end_and_are_learnt_whole():
    spoken = Speaker(talk.pieces("first"), talk.piece_config()).texts(["a little girl", "</s> is no end"])
    assert spoken[0].ids_T[[0, -1]].tolist() == [1, 2]
    assert not spoken[0].learnt_T[0]
    assert spoken[0].learnt_T[1:].all()
    assert [s.escaped for s in spoken] == [False, True]
    assert (spoken[1].ids_T == 2).sum() == 1


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{{ raise_exception('roles must alternate') }}", "roles must alternate"),
        ("{{ messages[0]['content'] }}", "leaves a message out"),
        ("{% for m in messages %}{{ m['content'] | upper }}{% endfor %}", "changes it"),
        ("{% for m in messages %}", "TemplateSyntaxError"),
        ("{{ ''.__class__.__mro__ }}", "unsafe"),
    ],
)
def test_templates_that_fail_or_change_text_are_refused(template, words):
    with pytest.raises(TemplateError, match=words):
        pieces({"chat_template": template}, PAIR)


def test_templates_may_trim_and_mark_generations():
    template = (
        "{% for m in messages %}{% generation %}{{ m['content'] | trim }}{% endgeneration %}"
        "{{ {'a': '<'} | tojson }}{% endfor %}"
    )
    found = pieces({"chat_template": template}, [{"role": "user", "content": " hello "}])
    assert [piece.text for piece in found] == ["hello", '{"a": "<"}']


def test_an_end_token_that_the_tokenizer_lacks_is_refused():
    with pytest.raises(UserError, match="no such special token"):
        Speaker(talk.byte_level(), {"eos_token": "</s>"})


@pytest.mark.parametrize("form", ["plain bytes", "brackets, mark first", "brackets, mark after specials"])
def test_places_are_characters_of_the_answers_whatever_the_tokenizer(form):
    """A learnt token's place is the length of what the learnt tokens before it say."""
    tokenizer_json, config, chat = FORMS[form]
    chat = [*chat[:-1], {"role": "assistant", "content": "down a bït 鴨 please"}]
    spoken = Speaker(tokenizer_json, config, places=True).chats([chat])[0]
    assert np.array_equal(spoken.ids_T, Speaker(tokenizer_json, config).chats([chat])[0].ids_T)
    last = int((spoken.places_T >> 24).max())
    begin = int(np.flatnonzero((spoken.places_T >> 24) == last)[0])
    tokenizer, answer = reader(tokenizer_json), chat[-1]["content"]
    found = 0
    for t in np.flatnonzero((spoken.places_T >= 0) & (spoken.places_T >> 24 == last)):
        place = int(spoken.places_T[t]) & (1 << 24) - 1
        said = tokenizer.decode(spoken.ids_T[begin:t].tolist(), skip_special_tokens=True)
        assert said.strip() == answer[:place].strip()
        found += 1
    assert found > 5
    assert (spoken.places_T[~spoken.learnt_T] == -1).all()
    assert len(set(spoken.places_T[spoken.places_T >= 0].tolist())) == (spoken.places_T >= 0).sum()


def test_texts_have_places_up_to_their_end():
    text = "down a bit"
    for tokenizer_json, config in (FORMS["plain bytes"][:2], FORMS["plain pieces"][:2]):
        spoken = Speaker(tokenizer_json, config, places=True).texts([text])[0]
        assert len(spoken.places_T) == len(spoken.ids_T)
        assert spoken.places_T[-1] == len(text)
        assert spoken.places_T[0] == -1
