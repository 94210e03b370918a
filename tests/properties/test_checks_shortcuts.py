"""What makes checks fast never changes what they find: each shortcut beside the plain way."""

from __future__ import annotations

import re
from collections import Counter

from hypothesis import example, given
from hypothesis import strategies as st

from shadow.answer import _INVISIBLES, visible
from shadow.checks import kinds
from shadow.checks.abstention_phrases import ABSTAINS
from shadow.checks.escalation_phrases import HANDS_OVER
from shadow.checks.hints import Hints
from shadow.checks.manner_phrases import OVERCONFIDENT, SELF_JUSTIFIES
from shadow.checks.refusal_phrases import CAPABILITY, REFUSES
from shadow.checks.repetition_rate import _most_common, _sentences
from shadow.checks.wording import Phrases
from shadow.checks.wording import _sentences as spans_of
from shadow.checks.words import count_words

PHRASES = (REFUSES, CAPABILITY, ABSTAINS, HANDS_OVER, SELF_JUSTIFIES, OVERCONFIDENT)
WORDS = sorted(
    {hint for each in PHRASES for group in each.groups for hint in group.hints | group.also}
)
NOISE = [
    *(" ", ". ", "! ", "? ", "\n", "...", "\u3002", "\uff1f", "No.", "\ud800", "\U0001f600"),
    *("\u00a0", "\u2009", "\x1c", "\u200b", "i can't ", " i cannot help with that"),
    *("ich kann das nicht tun", "je ne peux pas", "no puedo ", "не могу "),
    *("我无法提供", "できません", "수 없습니다"),
]
SCRIPTS = "aä\u0431不 \U0001f600\ud800"
pieces = st.sampled_from(WORDS) | st.sampled_from(NOISE) | st.text(max_size=12)
texts = st.lists(pieces, max_size=60).map("".join)
SENTENCE = re.compile(r"[.!?\u3002\uff01\uff1f]+")
CJK = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")


def plain_spans(text: str) -> list[tuple[int, int]]:
    """Sentences, of which one of less than 25 characters belongs to the next."""
    spans = []
    start = 0
    for stop in SENTENCE.finditer(text):
        if stop.end() - start >= 25:
            spans.append((start, stop.end()))
            start = stop.end()
    return [*spans, (start, len(text))] if start < len(text) else spans


def plain_search(phrases: Phrases, text: str) -> tuple[int, int] | None:
    """Look for every hint of every group in every sentence, then for the pattern."""
    for group in phrases.groups:
        for start, stop in plain_spans(text):
            sentence = text[start:stop]
            if any(hint in sentence for hint in group.hints) and (
                not group.also or any(hint in sentence for hint in group.also)
            ):
                found = group.pattern.search(text, start, stop)
                if found is not None:
                    return found.span()
    return None


@given(text=texts, end=st.integers(0, 200))
def test_phrases_are_found_as_by_a_loop_over_their_hints(text: str, end: int) -> None:
    """The first match is the same, in all of a text and in its start, whatever is in it."""
    for phrases in PHRASES:
        found = phrases.search(text)
        assert (found.span() if found else None) == plain_search(phrases, text)
        found = phrases.search(text, end)
        assert (found.span() if found else None) == plain_search(phrases, text[:end])


@given(
    words=st.lists(st.text(SCRIPTS, min_size=1, max_size=4), max_size=12),
    text=st.text(SCRIPTS, max_size=60),
)
@example(words=["a", "ab", "abc", "b"], text="abc")
@example(words=["ab"], text="\ud800ab")
def test_hints_are_those_that_a_text_holds(words: list[str], text: str) -> None:
    """Words inside of others are found too, and half a surrogate pair breaks nothing."""
    hints = Hints()
    hints.add(word for word in words if "\ud800" not in word)
    expected = {word for word in words if "\ud800" not in word and word in text}
    assert hints.found(text) == expected
    hints.add(["не"])
    assert hints.found(f"{text}не") == {
        word for word in [*words, "не"] if "\ud800" not in word and word in f"{text}не"
    }


@given(text=texts)
@example(text="x" * 22 + "..." + "y" * 30 + "...")
@example(text="x" * 24 + ".")
@example(text="x" * 23 + ".")
def test_sentences_are_the_same(text: str) -> None:
    """The regular expression merges short sentences as a loop would."""
    assert list(spans_of(text)) == plain_spans(text)


@given(text=texts)
@example(text="ab abc abcd abcde abcdef abcdefg")
def test_words_are_counted_as_they_are_split(text: str) -> None:
    """By arrays as by `split`, and no fewer different ones are there than their starts say."""
    for long in (text, text + " x" * kinds.LONG_CHARS):
        assert kinds.word_bounds(long).size // 2 == len(long.split())
        assert kinds.distinct_at_least(long) <= len(set(long.split()))
        others, characters = CJK.subn(" ", long)
        assert count_words(long) == len(others.split()) + characters


@given(
    before=texts,
    sentence=st.lists(pieces, min_size=1, max_size=6).map("".join),
    joints=st.lists(st.sampled_from([". ", "! ", "\n", ".\n", ".  ", "。", "? "]), max_size=12),
)
def test_a_repeated_sentence_is_never_overlooked(
    before: str, sentence: str, joints: list[str]
) -> None:
    """What is ruled out without counting sentences would not have been too often either."""
    text = before + "".join(sentence + joint for joint in joints)
    counts = Counter(each for each in _sentences(text) if len(each) > 20)
    expected = 0
    for each, times in counts.most_common(1):
        expected = times if times >= 4 and times * len(each) * 4 >= len(text) else 0
    assert _most_common(text) == expected


@given(text=st.text(f" ab\n\u00e4\u2009{_INVISIBLES}", max_size=20))
def test_what_is_visible_is_the_same(text: str) -> None:
    """Without zero-width characters, then without white space around."""
    assert visible(text) == "".join(each for each in text if each not in _INVISIBLES).strip()
