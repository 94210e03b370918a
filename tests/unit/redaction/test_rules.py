"""What the rules replace in a text, and what they leave alone."""

from __future__ import annotations

import pytest

from gateway.redaction.bodies import Redactor
from gateway.settings_privacy import RedactionSettings

KEY = "-----BEGIN RSA PRIVATE KEY-----\nMIIEow\nAAAA\n-----END RSA PRIVATE KEY-----"
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjMifQ.SflKxwRJSMeKKF2QT4fwpMeJf36POk6yJV"


@pytest.fixture
def redactor() -> Redactor:
    """By the defaults, and with a clock that stands still."""
    return Redactor(RedactionSettings(), clock=lambda: 0.0)


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("write to bob@example.com.", "write to [EMAIL_1]."),
        ("Bob <bob.smith+x@mail.example.co.uk>", "Bob <[EMAIL_1]>"),
        ("müller@firma.de and MÜLLER@firma.de", "[EMAIL_1] and [EMAIL_1]"),
        ("https://a.example/?to=bob%40example.com&x=1", "https://a.example/?to=[EMAIL_1]&x=1"),
        (r"a\u0040b.example is escaped", "[EMAIL_1] is escaped"),
        ("call +49 151 23456789 or +1 (415) 555-2671", "call [PHONE_1] or [PHONE_2]"),
        ("0049 151 23456789", "[PHONE_1]"),
        ("(415) 555-2671, 415-555-2671, 415.555.2671", "[PHONE_1], [PHONE_1], [PHONE_1]"),
        ("030 12345678; 01 23 45 67 89; 020 7946 0958", "[PHONE_1]; [PHONE_2]; [PHONE_3]"),
        ("phone number: 5551234567", "phone number: [PHONE_1]"),
        ("4111 1111 1111 1111 is 4111111111111111", "[CARD_1] is [CARD_1]"),
        ("12 4111 1111 1111 1111 0000", "12 [CARD_1] 0000"),
        ("3782 822463 10005", "[CARD_1]"),
        ("pay DE89 3704 0044 0532 0130 00 BIC COBADEFF", "pay [IBAN_1] BIC COBADEFF"),
        ("gb29nwbk60161331926819", "[IBAN_1]"),
        ("use sk-proj-abcdefghij0123456789 now", "use [SECRET_1] now"),
        ("AKIAIOSFODNN7EXAMPLE", "[SECRET_1]"),
        ("ghp_abcdefghijklmnopqrstuvwxyz0123456789", "[SECRET_1]"),
        ("xoxb-123456789012-abcdef", "[SECRET_1]"),
        ("Authorization: Bearer abcdef0123456789abcdef", "Authorization: Bearer [SECRET_1]"),
        ("password: hunter22, ok", "password: [SECRET_1], ok"),
        ('api_key="a1b2c3d4e5"', 'api_key="[SECRET_1]"'),
        ("DB_PASSWORD=s3cr3t!x", "DB_PASSWORD=[SECRET_1]"),
        (f"token {JWT} end", "token [JWT_1] end"),
        (f"see\n{KEY}\nend", "see\n[PRIVATE_KEY_1]\nend"),
        ("-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA and cut", "[PRIVATE_KEY_1]"),
        ('{"card": "4111111111111111"}', '{"card": "[CARD_1]"}'),
    ],
)
def test_what_is_personal_or_secret_is_replaced(
    redactor: Redactor, text: str, redacted: str
) -> None:
    """The same value gets the same placeholder, whatever it is written like."""
    assert redactor.text(text)[0] == redacted


@pytest.mark.parametrize(
    "text",
    [
        "order 1234567890, invoice 4111111111111112, item 9780306406157",
        "on 2024-08-06 at 12:30:45, 06.08.2024, 08/06/2024, 2024-08-06T12:30:45Z",
        "model gpt-4o-2024-08-06, version 1.2.3.4, at 192.168.100.200:8080",
        "pi is 3.14159265358979, 12 345 678 things, 1,234,567.89 dollars",
        "the password is wrong? a secret garden; keys, tokens: few; basic English",
        "risk-free task-force disk-based; e.g. @bob and pkg@1.2.3; a@b",
        "DE00 3704 0044 0532 0130 00 has no valid checksum",
        "0123456789abcdef0123456789abcdef 550e8400-e29b-41d4-a716-446655440000",
        "eyJ is how one begins, -----BEGIN CERTIFICATE----- is public",
        "[EMAIL_1] and [SECRET_12] stay, password: [SECRET_1]",
        "scores 98 97 96 95, 10 20 30 40 50 60 70",
    ],
)
def test_what_only_looks_like_it_is_left_alone(redactor: Redactor, text: str) -> None:
    """Order numbers, dates, versions, prose and placeholders survive."""
    assert redactor.text(text) == (text, {})


def test_rules_can_be_turned_off() -> None:
    """What is off is left; the others apply."""
    settings = RedactionSettings.model_validate({"rules": {"email": False}})
    redactor = Redactor(settings, clock=lambda: 0.0)
    assert redactor.text("a@b.example +49 151 23456789")[0] == "a@b.example [PHONE_1]"


def test_placeholders_are_not_given_out_twice(redactor: Redactor) -> None:
    """What somebody wrote that looks like one keeps its number to itself."""
    assert redactor.text("[EMAIL_7] is not a@b.example")[0] == "[EMAIL_7] is not [EMAIL_8]"


def test_matches_are_counted_by_rule(redactor: Redactor) -> None:
    """Every occurrence counts, not every value."""
    assert redactor.text("a@b.example a@b.example AKIAIOSFODNN7EXAMPLE")[1] == {
        "email": 2,
        "secret": 1,
    }
