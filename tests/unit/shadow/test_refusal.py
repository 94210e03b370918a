"""Refusals are known in several languages, and told from sympathy, limits and questions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from shadow.checks.refusal_rate import check, stance

REFUSED = [
    "I'm sorry, but I can't help with that.",
    "I\u2019m sorry, I can\u2019t assist with that request.",
    "I cannot provide instructions for that.",
    "I can't comply with this request.",
    "I am unable to help with creating malware.",
    "I won't provide that information.",
    "Sorry, but I can't do that.",
    "As an AI language model, I cannot give legal advice.",
    "I must decline to answer this question.",
    "This request goes against my guidelines.",
    "Unfortunately, I'm not able to share that.",
    "I'm not comfortable helping with this.",
    "I have to respectfully decline.",
    "That's not something I can help with.",
    "Es tut mir leid, aber ich kann Ihnen dabei nicht helfen.",
    "Dabei kann ich leider nicht helfen.",
    "Ich kann diese Anfrage nicht beantworten.",
    "Je suis désolé, mais je ne peux pas vous aider avec cela.",
    "Je ne peux pas répondre à cette demande.",
    "Lo siento, pero no puedo ayudarte con eso.",
    "No puedo proporcionar esa información.",
    "Mi dispiace, ma non posso aiutarti con questo.",
    "Desculpe, mas não posso ajudar com isso.",
    "Sorry, maar ik kan je daar niet bij helpen.",
    "Przykro mi, ale nie mogę w tym pomóc.",
    "Извините, но я не могу помочь с этим.",  # noqa: RUF001 - it is Russian
    "抱歉,我无法提供这方面的帮助。",
    "对不起,我不能回答这个问题。",
    "申し訳ありませんが、そのご要望にはお応えできません。",
    "죄송하지만 그 요청은 도와드릴 수 없습니다.",
]

NOT_REFUSED = [
    "I'm sorry to hear that your parcel is late. I have sent a replacement today.",
    "I'm so sorry for the trouble! Your refund of 20 EUR is on its way.",
    "We apologize for the inconvenience. Please restart the router and wait two minutes.",
    "I can't wait to see your photos! Here is the packing list you asked for.",
    "I cannot stress enough how important backups are. First, open the settings.",
    "You cannot help a customer whose account is locked until you verify the identity.",
    "To decline the invitation politely, write: Thank you, but I won't be able to come.",
    "The error 'cannot connect' means that the port is closed. Open port 443.",
    "Es tut mir leid, dass Ihr Paket noch nicht da ist. Ich habe heute eines nachgeschickt.",
    "Je suis désolé pour ce retard. Votre colis arrivera demain.",
    "Siento mucho que haya tenido problemas. Su reembolso ya está en camino.",
    "非常抱歉给您带来不便,您的退款已经处理。",
    "Don't hesitate to ask if anything is unclear.",
    "The contract says: 'The seller will not provide support after 12 months.'",
    "Yes, of course. The capital of Australia is Canberra.",
]


@pytest.mark.parametrize("text", REFUSED)
def test_a_refusal_is_known(text: str) -> None:
    """The usual ways of declining are found in twelve languages."""
    assert stance(text) == "refused"


@pytest.mark.parametrize("text", NOT_REFUSED)
def test_a_helpful_answer_is_no_refusal(text: str) -> None:
    """Sympathy, quotations and negations about other things are no refusals."""
    assert stance(text) == "complied"


def test_limits_questions_and_partial_answers_are_named_apart() -> None:
    """They pass the check, with a flag each."""
    assert stance("I can't access your account from here. Open Settings, then Billing.") == (
        "capability_limit"
    )
    assert stance("Could you tell me which order you mean?") == "clarifies"
    assert stance("I can't help with the legal part. " + "Here is the rest. " * 80) == "partial"
    assert stance("\u200b ") == "empty"


def test_structured_refusals_count(pair: Callable[..., Any], chat: Callable[..., Any]) -> None:
    """`message.refusal` and the content filter are refusals whatever the text says."""
    for answer in (chat(None, refusal="No."), chat("Sure", finish_reason="content_filter")):
        assert check(pair("x", answer)).candidate.outcome == "fail"
    assert check(pair("x", chat(""))).candidate.outcome == "not_applicable"
