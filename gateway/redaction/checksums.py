"""Checksums and plausibility that tell a card or an account from any other number; pure."""

from __future__ import annotations

__all__ = ["IBAN_LENGTHS", "is_card", "is_iban"]

IBAN_LENGTHS = {
    "AD": 24, "AE": 23, "AL": 28, "AT": 20, "AZ": 28, "BA": 20, "BE": 16, "BG": 22, "BH": 22,
    "BI": 27, "BR": 29, "BY": 28, "CH": 21, "CR": 22, "CY": 28, "CZ": 24, "DE": 22, "DJ": 27,
    "DK": 18, "DO": 28, "EE": 20, "EG": 29, "ES": 24, "FI": 18, "FK": 18, "FO": 18, "FR": 27,
    "GB": 22, "GE": 22, "GI": 23, "GL": 18, "GR": 27, "GT": 28, "HN": 28, "HR": 21, "HU": 28,
    "IE": 22, "IL": 23, "IQ": 23, "IS": 26, "IT": 27, "JO": 30, "KW": 30, "KZ": 20, "LB": 28,
    "LC": 32, "LI": 21, "LT": 20, "LU": 20, "LV": 21, "LY": 25, "MC": 27, "MD": 24, "ME": 22,
    "MK": 19, "MN": 20, "MR": 27, "MT": 31, "MU": 30, "NI": 28, "NL": 18, "NO": 15, "OM": 23,
    "PK": 24, "PL": 28, "PS": 29, "PT": 25, "QA": 29, "RO": 24, "RS": 22, "RU": 33, "SA": 24,
    "SC": 31, "SD": 18, "SE": 24, "SI": 19, "SK": 24, "SM": 27, "SO": 23, "ST": 25, "SV": 28,
    "TL": 23, "TN": 24, "TR": 26, "UA": 29, "VA": 22, "VG": 24, "XK": 20, "YE": 30,
}  # fmt: skip
"""Characters of an IBAN by country, from the IBAN registry (ISO 13616)."""

_DOUBLED = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)


def is_card(digits: str) -> bool:
    """Say whether these digits are a payment card: a network's prefix and length, and Luhn's sum.

    ISO/IEC 7812-1; one in ten numbers of the right form passes the sum by chance.
    """
    if not _network(digits):
        return False
    total = 0
    for place, digit in enumerate(reversed(digits)):
        total += _DOUBLED[int(digit)] if place % 2 else int(digit)
    return total % 10 == 0


def _network(digits: str) -> bool:
    size, four = len(digits), int(digits[:4] or "0")
    if digits[:1] == "4":
        return size in {13, 16, 19}
    if 5100 <= four <= 5599 or 2221 <= four <= 2720:
        return size == 16
    if digits[:2] in {"34", "37"}:
        return size == 15
    if digits[:2] in {"36", "38", "39"} or 3000 <= four <= 3059:
        return 14 <= size <= 19
    if 3528 <= four <= 3589 or four == 6011 or 6440 <= four <= 6599 or digits[:2] == "62":
        return 16 <= size <= 19
    return False


def is_iban(compact: str) -> bool:
    """Say whether this is an IBAN: upper case, no spaces, the country's length, 1 modulo 97."""
    if len(compact) != IBAN_LENGTHS.get(compact[:2]) or not compact.isascii():
        return False
    moved = compact[4:] + compact[:4]
    return int("".join(str(int(each, 36)) for each in moved)) % 97 == 1
