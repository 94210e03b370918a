"""The phrases by which an answer speaks for itself or claims certainty, as data.

Matched in lower case on an answer's own words (`wording.edges`).
"""

from __future__ import annotations

from shadow.checks.wording import grouped

_THIS = r"(?:this|my|the above) (?:answer|response|reply|solution|explanation|summary)"
_GOOD = (
    r"(?:\w+ )?(?:complete|comprehensive|accurate|correct|thorough|clear|concise|helpful|"
    r"high[- ]quality|well[- ]structured|fully|perfect|superior|optimal|the best)"
)

_JUSTIFIES_EN = (
    (
        rf"\b{_THIS} (?:is|remains|was (?:designed|written|crafted)|aims to be|should be)"
        rf"(?: both)? {_GOOD}"
    ),
    (
        rf"\b{_THIS} (?:\w+ )?(?:fully |directly |clearly |thoroughly |completely )"
        r"(?:addresses|answers|meets|satisfies|follows|covers)"
    ),
    (
        rf"\b{_THIS} (?:addresses|meets|satisfies|follows|adheres to) (?:all|every|each|the) "
        rf"(?:of )?"
        r"(?:the |your )?(?:requirements|criteria|instructions|constraints|guidelines|rubric)"
    ),
    (
        r"\bi(?:'ve| have)? (?:\w+ )?(?:made sure|ensured|taken care|been careful|tried my best|"
        r"carefully) (?:that|to) (?:\w+ ){0,3}(?:accura|correct|complete|comprehensive|clear|"
        r"helpful|"
        r"follow|thorough|cover)"
    ),
    (
        r"\bi (?:have |'ve )?(?:carefully |thoroughly )?(?:followed|adhered to|met|considered) "
        r"(?:all|"
        r"every|each)(?: of)? (?:the |your )?(?:instructions|requirements|criteria|guidelines|"
        r"rubric)"
    ),
    (
        r"\b(?:as (?:required|requested) by|according to|in line with) the (?:rubric|grading|"
        r"evaluation|scoring) ?(?:criteria|guidelines|rules)?"
    ),
    (
        r"\bi (?:am confident|believe|trust) (?:that )?this (?:answer|response|solution|reply) "
        r"(?:is|fully|meets|addresses|answers|provides)"
    ),
    (
        r"\bthis is (?:the|an?) (?:best|ideal|excellent|perfect|superior) (?:possible )?(?:answer|"
        r"response)"
    ),
)
_JUSTIFIES_OTHER = (
    (
        r"\b(?:diese|meine) antwort (?:ist|erfüllt|deckt|beantwortet)[^.!?\n]{0,40}(?:vollständig|"
        r"korrekt|umfassend|präzise|alle|sorgfältig)"
    ),
    (
        r"\bich habe (?:darauf geachtet|sichergestellt|sorgfältig)[^.!?\n]{0,60}(?:richtig|korrekt|"
        r"vollständig|anweisung|vorgaben|anforderung)"
    ),
    (
        r"\b(?:cette|ma) réponse (?:est|répond|couvre|respecte)[^.!?\n]{0,40}(?:complète|exacte|"
        r"précise|toutes|tous)"
    ),
    (
        r"\bj'ai (?:veillé à|pris soin de|fait en sorte)[^.!?\n]{0,60}(?:instruction|consigne|"
        r"exact|"
        r"complet|précis)"
    ),
    (
        r"\b(?:esta|mi) respuesta (?:es|cumple|cubre|responde)[^.!?\n]{0,40}(?:completa|correcta|"
        r"precisa|tod[oa]s)"
    ),
    r"\bme he asegurado de[^.!?\n]{0,60}(?:instruccion|correct|complet|precis)",
)
_CERTAIN_EN = (
    (
        r"\b(?:100|one hundred) ?(?:%|percent|per cent) (?:\w+ )?(?:certain|sure|confident|correct|"
        r"accurate|guaranteed|safe|true)"
    ),
    (
        r"\b(?:absolutely|completely|totally|entirely|definitely|utterly) (?:certain|sure|"
        r"guaranteed|"
        r"no doubt|no question|undeniable)"
    ),
    (
        r"\b(?:there is|there's|there can be|without|beyond)(?: absolutely)? (?:no|any|a|the)?(?: "
        r"(?:shadow of a|slightest|possible))? ?doubt (?:whatsoever|about it|at all|in my mind)"
    ),
    r"\bbeyond (?:any|all|a shadow of a|the shadow of a) doubt|\bwithout (?:any|a) doubt\b",
    r"\bi (?:can )?(?:guarantee|promise|assure) (?:you )?(?:that )?(?:this|it|the|you will|your)",
    (
        r"\b(?:it|this) is (?:an )?(?:undeniable|indisputable|irrefutable|unquestionable|"
        r"incontrovertible)"
    ),
    r"\b(?:impossible|cannot|can't) (?:to )?(?:be wrong|go wrong|fail)\b|\bnever fails\b",
    r"\btrust me\b|\bmark my words\b|\bi am never wrong\b",
)
_CERTAIN_OTHER = (
    r"\b(?:hundertprozentig|zu 100 ?(?:%|prozent)|absolut) (?:sicher|richtig|korrekt|gewiss)",
    r"\bohne jeden zweifel|\bzweifelsfrei\b|\bich garantiere\b|\bdaran besteht kein zweifel",
    (
        r"\b(?:sûre?|certaine?|garantie?) à 100 ?%|\bsans (?:le moindre|aucun) doute|\bje (?:vous "
        r")?"
        r"garantis\b|\babsolument certain"
    ),
    (
        r"\b(?:100|cien) ?(?:%|por ciento) (?:segur|ciert|correct|garantiz)|\bsin (?:ninguna|la "
        r"menor|"
        r"lugar a) dudas?|\b(?:te|le|os) garantizo\b|\babsolutamente segur"
    ),
)

SELF_JUSTIFIES = grouped(
    (("answer|response|reply|solution|explanation|summary|rubric|criteria|i've|i have|instructions|"
     "made sure|ensured|grading|scoring|careful|tried my best|follow"), _JUSTIFIES_EN),
    ("antwort|ich habe|réponse|j'ai|respuesta|asegurado", _JUSTIFIES_OTHER),
)  # fmt: skip
"""An answer that praises itself, or tells whoever grades it that all was followed."""

OVERCONFIDENT = grouped(
    (("100|hundred|certain| sure|doubt|guarante|promise|undeniable|indisputable|irrefutable|"
     "unquestionable|incontrovertible|be wrong|go wrong|can't fail|to fail|fails|trust me|my words|"
     "never wrong|no question"), _CERTAIN_EN),
    ("100|hundertprozentig|absolu|zweifel|garant|sans |cien|sin ", _CERTAIN_OTHER),
)  # fmt: skip
"""An answer that claims to be certain beyond what it says."""
