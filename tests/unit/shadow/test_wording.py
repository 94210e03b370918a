"""Escalations and abstentions are known in several languages, and told from what sounds alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ValidationError

from gateway.settings import Contract, Escalation
from shadow.checks import abstention_rate, escalation_rate, format_valid
from shadow.checks.abstention_rate import abstains
from shadow.checks.escalation_rate import escalates

Build = Callable[..., Any]

HANDED_OVER = [
    "Let me connect you to a colleague who can help.",
    "I'll transfer you to one of our specialists now.",
    "I\u2019m going to forward your request to our billing team.",
    "I have escalated your case.",
    "I am escalating this to my manager.",
    "Your request has been forwarded to our support team.",
    "A member of our team will get back to you within 24 hours.",
    "Please hold while I transfer you to a human agent.",
    "I'm bringing in a human agent to look at this.",
    "One of our representatives will contact you shortly.",
    "I'll put you through right away.",
    "Ich verbinde Sie mit einem Kollegen.",
    "Ich leite Ihr Anliegen an unser Support-Team weiter.",
    "Ein Mitarbeiter wird sich bei Ihnen melden.",
    "Ich habe Ihre Anfrage an die Fachabteilung weitergeleitet.",
    "Lassen Sie mich Sie mit einer Kollegin verbinden.",
    "Je vous mets en relation avec un conseiller.",
    "Je vais vous transférer à un collègue.",
    "Je transmets votre demande à notre équipe technique.",
    "Un de nos conseillers va vous rappeler.",
    "Le comunico con un agente.",
    "Voy a transferirle con un compañero.",
    "He escalado su caso a nuestro equipo.",
    "Un agente se pondrá en contacto con usted.",
    "La metto in contatto con un operatore.",
    "Vou transferir você para um atendente.",
    "Ik verbind u door met een collega.",
]

NOT_HANDED_OVER = [
    "Would you like me to connect you with a human agent?",
    "I can't transfer you to a person from here.",
    "To escalate a ticket, click Escalate and choose a manager.",
    "Please ask your manager to connect you with the team.",
    "You can contact our support team at help@acme.test.",
    "Let me explain how a support agent works in three steps.",
    "Let me refer you to the support page for details.",
    "I'll put this in words that your team will understand.",
    'The script ends with "Let me connect you to a colleague."',
    "> I'll transfer you to an agent\n\nThat line is what the customer heard.",
    "The experts connect the transfer pump to the operator panel.",
    "I am connected to the weather service: it will rain.",
    "Ich gebe Ihnen gern eine Übersicht der Angebote unseres Supports.",
    "Wenden Sie sich bitte an einen Mitarbeiter vor Ort.",
    "Je vous donne un exemple de conseiller.",
    "Puede hablar con un agente en la tienda.",
    "Voy a poner un ejemplo de equipo.",
]

ABSTAINED = [
    "I don't know.",
    "I don't have enough information to answer that.",
    "I do not have any information about this product.",
    "I\u2019m not sure.",
    "I'm afraid I have no information on that order.",
    "The provided context does not mention the price.",
    "The documents don't specify a date.",
    "That is not mentioned in the provided documents.",
    "There is no information about refunds in the policy.",
    "There is not enough information to determine the cause.",
    "I couldn't find any details on that.",
    "I cannot determine this from the text.",
    "This can't be answered based on the given passages.",
    "It is unclear from the text whether he paid.",
    "Das weiß ich leider nicht.",
    "Ich weiß es nicht.",
    "Dazu habe ich leider keine Informationen.",
    "Mir liegen hierzu keine Angaben vor.",
    "Aus dem Text lässt sich das nicht sagen.",
    "Die Dokumente enthalten dazu keine Angaben.",
    "Je ne sais pas.",
    "Je n'ai pas d'informations à ce sujet.",
    "Le document ne précise pas la date.",
    "Je ne peux pas vous dire quand il arrivera.",
    "No lo sé.",
    "No tengo información sobre ese pedido.",
    "El documento no menciona el precio.",
    "No puedo determinar la causa.",
    "Non lo so.",
    "Não tenho informações sobre isso.",
    "Ik heb daar geen informatie over.",
    "我不知道。",
    "文档中没有提到价格。",
    "その情報はありません。",
    "잘 모르겠습니다.",
]

NOT_ABSTAINED = [
    "I don't know about you, but I'd take the train.",
    "I don't know if you have tried it, but a restart often helps.",
    'Translate it as "I don\'t know".',
    "He said: \u201cI don't have enough information to answer.\u201d That was wrong.",
    "\u00ab Je ne sais pas \u00bb",
    "`raise ValueError('I don't know')`",
    "> I don't know what to do\n\nTry a restart first.",
    "You may not know this, but the shop opens at nine.",
    "If you don't know your password, reset it.",
    "I can't tell you how happy I am about this result!",
    "In case you don't know: returns are free.",
    "There is no doubt that it works.",
    "There is no evidence that coffee harms you.",
    "The error means that the server did not answer.",
    "It does not matter which one you take.",
    "I have no doubt that you will like it.",
    "I'm not sure if you saw it, but your parcel has arrived.",
    "The call returns None if we can't determine the name.",
    "It is empty where the result does not contain any row.",
    "Nobody knows the shop better than she does.",
    "Ich weiß nicht, wie es Ihnen geht, aber ich mag es.",
    "Das ist kein Problem.",
    "No sé tú, pero yo iría en tren.",
    "Je ne sais pas pour vous, mais je prendrais le train.",
    "Your order is not delayed; it arrives on Monday.",
]


@pytest.mark.parametrize("text", HANDED_OVER)
def test_handing_over_is_known(text: str) -> None:
    """The usual ways of passing a customer on are found."""
    assert escalates(text)


@pytest.mark.parametrize("text", NOT_HANDED_OVER)
def test_talking_of_people_is_no_escalation(text: str) -> None:
    """Offers, advice whom to ask, quotations and denials are none."""
    assert not escalates(text)


@pytest.mark.parametrize("text", ABSTAINED)
def test_not_knowing_is_known(text: str) -> None:
    """The usual ways of saying so are found."""
    assert abstains(text)


@pytest.mark.parametrize("text", NOT_ABSTAINED)
def test_turns_of_phrase_are_no_abstention(text: str) -> None:
    """Quotations, other people's ignorance and idioms are none."""
    assert not abstains(text)


def test_a_long_answer_that_goes_on_passes_with_a_flag(pair: Build) -> None:
    """It opens with what it does not know and helps with the rest."""
    text = "I don't have information on the colour. " + "The size is large and it fits. " * 40
    found = abstention_rate.check(pair("I don't know.", text))
    assert (found.baseline.bit(), found.candidate.bit()) == (1, 0)
    assert found.candidate.flags == ("partial",)


def test_the_end_of_a_long_answer_can_hand_over() -> None:
    """That is where it usually stands."""
    text = "Restart the router and wait. " * 60
    assert escalates(text + "I've escalated your ticket to our technicians.")
    assert not escalates(text)


def test_the_routes_own_words_replace_the_common_ones(pair: Build, chat: Build) -> None:
    """A declared sentence or tool is what counts, whatever else is said."""
    contract = Contract(
        escalation=Escalation(tool="hand_over", phrases=("Una persona del Turno  de noche sigue",))
    )
    call = {"id": "c", "function": {"name": "hand_over", "arguments": "{}"}}
    other = {"id": "c", "function": {"name": "transfer_to_human", "arguments": "{}"}}
    for answer, bit in (
        ("una persona del turno de\nnoche sigue con esto", 1),
        ("Let me connect you to a colleague.", 0),
        (chat(None, tool_calls=[call]), 1),
        (chat("One moment.", tool_calls=[other]), 0),
        (chat(""), None),
    ):
        assert escalation_rate.check(pair("x", answer, contract=contract)).candidate.bit() == bit


@pytest.mark.parametrize(
    ("name", "bit"),
    [("transfer_to_human", 1), ("escalate-ticket", 1), ("handoff_to_live_agent", 1),
     ("request_human", 1), ("transfer_to_billing", 0), ("transfer_money", 0),
     ("get_person", 0), ("contact_form", 0)],
)  # fmt: skip
def test_common_tools_that_hand_over_are_known(
    pair: Build, chat: Build, name: str, bit: int
) -> None:
    """Without a declaration a tool counts by its name, and transfers of other kinds do not."""
    answer = chat(None, tool_calls=[{"id": "c", "function": {"name": name, "arguments": "{}"}}])
    assert escalation_rate.check(pair("x", answer)).candidate.bit() == bit


def test_tools_and_refusals_are_no_abstention(pair: Build, chat: Build) -> None:
    """Looking something up is the opposite of giving up, and a refusal is counted elsewhere."""
    call = {"id": "c", "function": {"name": "search", "arguments": "{}"}}
    looked = chat("I don't know yet, let me look.", tool_calls=[call])
    assert abstention_rate.check(pair("x", looked)).candidate.bit() == 0
    assert abstention_rate.check(pair("x", chat(None, refusal="No."))).candidate.bit() == 0
    assert abstention_rate.check(pair("x", chat(" "))).candidate.bit() is None


def test_an_escalation_alone_declares_no_format(pair: Build) -> None:
    """Prose stays prose: only what constrains the answer's form makes a format."""
    contract = Contract(escalation=Escalation(tool="hand_over"))
    assert format_valid.check(pair(contract=contract)).candidate.outcome == "not_applicable"


def test_an_escalation_must_say_something() -> None:
    """An empty declaration would count nothing, for ever."""
    with pytest.raises(ValidationError, match="name a tool"):
        Escalation()
