"""The phrases by which an assistant says that it does not know or cannot tell, as data.

Matched in lower case. `NOT_ABSTAINING` is taken out of the text first, so that turns of phrase that
only sound alike do not count.
"""

from __future__ import annotations

from shadow.checks.wording import Phrases, any_of, grouped

NOT_ABSTAINING = any_of(
    r"i (?:don't|do not) know (?:about you\b|if you\b|whether you\b|how to thank|what i'd do)",
    r"i (?:don't|do not) know (?:a single|anyone|of anyone|any(?:one|body) who)",
    r"you (?:may|might|probably|already)? ?(?:don't|do not) know",
    r"(?:can't|cannot|can not) (?:tell you how|say enough|be sure enough)",
    r"i'm not sure (?:if|whether) you\b",
    r"in case you (?:don't|do not|didn't) know",
    r"i have no (?:doubt|problem|objection)",
    r"ich weiß nicht, (?:wie es (?:ihnen|dir|euch)|ob (?:sie|du|ihr)\b)",
    r"je ne sais pas (?:pour vous|pour toi|si vous\b|si tu\b|comment vous remercier)",
    r"no sé (?:tú|usted(?:es)?|vosotros|si (?:tú|usted|sabes|sabe)\b|cómo agradecer)",
    r"non so (?:voi|lei|tu|se (?:lei|tu|voi)\b|come ringraziar)",
    r"não sei (?:você|vocês|se você|como agradecer)",
)

_EN_SOURCE = (
    r"(?:context|documents?|documentation|information|passages?|text|sources?|data|articles?|"
    r"excerpts?|knowledge base|search results?|materials?|records?|files?|policy|manual)"
)
_DE_SOURCE = (
    r"(?:dokument\w*|kontext|unterlagen|texte?n?|quellen?|informationen|angaben|auszüg\w*|"
    r"dokumentation|artikel\w*)"
)
_FR_SOURCE = r"(?:documents?|contexte|textes?|sources?|informations?|passages?|documentation)"
_ES_SOURCE = r"(?:documentos?|contexto|textos?|fuentes?|información|pasajes?|documentación)"
_HOW = r"(?: (?:really|actually|currently|simply|just|honestly|also|unfortunately|reliably))?"

_ENGLISH_PERSON = (
    (
        rf"(?<!if )\b(?:i|we){_HOW} (?:don't|do not|didn't){_HOW} "
        r"(?:know\b|have (?:(?:any|enough|the|that|this|sufficient|specific|reliable|current|more|"
        r"much|further|a|an|real-time|up-to-date|relevant|detailed) )*(?:information|info|details?|"
        r"data|context|knowledge|answer|records?|documentation|idea))"
    ),
    (
        r"\b(?:i|we) have no (?:(?:specific|further|reliable|relevant|other) )?(?:information|info|"
        r"idea|data|details|knowledge|records?|way (?:of knowing|to (?:know|tell|verify|"
        r"determine)))"
    ),
    (
        rf"(?<!if )\b(?:i|we){_HOW} (?:can't|cannot|can not|could not|couldn't|am unable to|"
        rf"'m unable to|was unable to|am not able to|wasn't able to){_HOW} "
        r"(?:tell\b(?! you (?:how|about)\b)|say\b|"
        r"determine|confirm|verify|be (?:sure|certain)|know\b|conclude|establish|"
        r"find (?:any|the|that|this|an|a|anything|information|details|specific|relevant)\b)"
    ),
    (
        r"\b(?:i'm|i am|we're) not (?:sure|certain)(?: about (?:that|this|it)| of (?:that|this))?"
        r"(?=[.!;]|\s*$)"
    ),
)
_ENGLISH_SOURCE = (
    (
        r"\b(?:can't|cannot|can not|unable to) (?:be )?(?:answer|determin)(?:ed)?\b[^.?!]{0,60}"
        r"(?:based on|from|with|using|given) (?:only )?(?:the|this|your|what)\b"
    ),
    (
        rf"\bthe{_HOW} (?:(?:provided|given|available|supplied|retrieved|attached|above|current) )*"
        rf"{_EN_SOURCE}(?: [\w-]+){{0,3}} (?:don't|doesn't|do not|does not|did not|didn't)"
        r"(?: \w+){0,2}? (?:mention|contain|say|specify|include|state|provide|cover|address|"
        r"indicate|"
        r"give|answer|tell|discuss|describe|explain)"
    ),
    (
        r"\b(?:is|are|was|were)(?:n't| not| nowhere)(?: \w+)? (?:mentioned|specified|stated|"
        r"provided|"
        r"included|covered|given|listed|found|described) (?:anywhere )?in (?:the|this|these|your|"
        r"any|"
        rf"my) (?:\w+ ){{0,2}}{_EN_SOURCE}"
    ),
    (
        r"\b(?:not enough|insufficient|no(?:t sufficient)?) (?:information|context|data|details?)"
        r"(?: (?:is|was|provided|given|available|here))* to (?:answer|determine|say|tell|conclude|"
        r"give|"
        r"know|decide)"
    ),
    (
        r"\bthere(?:'s| is| was|'re| are)(?:n't| not)? (?:no|any|enough|insufficient) (?:\w+ )?"
        r"(?:information|info|mention|details?|data) (?:about|on|regarding|in (?:the|my)|available|"
        r"provided|to (?:answer|determine|say|tell))"
    ),
    (
        r"\bit(?:'s| is)(?: \w+)? (?:unclear|not clear|not possible|"
        r"impossible)(?: for me)? (?:from (?:the|"
        r"this|what)|to (?:say|tell|determine|know) (?:from|based|with|without|whether|if|what|"
        r"when))"
    ),
    r"\b(?:beyond|outside)(?: of)?(?: the scope of)? my (?:knowledge|training|information)",
)
_GERMAN = (
    (
        r"\bich weiß (?:(?:es|das|leider|darauf|hierzu|dazu) )*nicht\b|"
        r"\bdas weiß ich (?:leider )?nicht"
    ),
    (
        r"\b(?:ich habe|mir liegen|mir liegt|uns liegen|ich verfüge über|es gibt|liegen mir|"
        r"habe ich)(?: [\w-]+){0,4}? kein\w* (?:[\w-]+ )?(?:information|angabe|daten|details|"
        r"kenntnis|"
        r"ahnung|hinweis|antwort)"
    ),
    (
        r"\b(?:das |dies |es )?(?:lässt sich|kann ich|ich kann)[^.?!]{0,60}nicht (?:(?:sicher|"
        r"genau|"
        r"eindeutig) )?(?:sagen|feststellen|bestimmen|ermitteln|beurteilen|bestätigen|entnehmen)"
    ),
    (
        rf"\b{_DE_SOURCE} (?:[\w-]+ ){{0,4}}?(?:(?:nicht|keine?n?) [^.?!]{{0,40}}|"
        rf"(?:\w+ ){{0,3}}nicht )"
        r"(?:hervor|erwähn|enthalt|angegeben|genannt|angaben|informationen|hinweis)"
    ),
    (
        r"\b(?:nicht genügend|nicht genug|unzureichende?|keine ausreichenden) (?:informationen|"
        r"angaben|"
        r"daten|kontext)"
    ),
)
_FRENCH = (
    r"\bje (?:ne )?(?:le )?sais pas\b",
    (
        r"\bje (?:ne dispose|n'ai|ne possède)(?: \w+)? (?:pas|d'aucune?|aucune?)(?: [\w']+){0,3}? ?"
        r"(?:d')?(?:information|donnée|élément|renseignement|détail|idée)"
    ),
    (
        r"\bje ne (?:peux|puis|suis pas en mesure de|saurais|parviens)(?: pas)?(?: \w+){0,2}? "
        r"(?:dire|"
        r"déterminer|confirmer|savoir|l'affirmer|préciser|trouver)"
    ),
    (
        rf"\b{_FR_SOURCE}(?: [\w'-]+){{0,4}} ne (?:mentionne|précise|contien|indique|fourni|di|"
        rf"permet)\w* "
        r"(?:pas|aucun)"
    ),
    r"\bil n'y a (?:pas|aucune?)(?: [\w']+){0,2} ?(?:d')?(?:information|mention|donnée)",
    r"\bimpossible de (?:dire|savoir|déterminer)",
)
_SPANISH = (
    r"\b(?:yo )?no (?:lo )?sé\b",
    (
        r"\bno (?:dispongo|tengo|cuento)(?: con| de)?(?: \w+){0,3}? (?:información|datos|detalles|"
        r"conocimiento|contexto|idea)"
    ),
    (
        r"\bno (?:puedo|es posible|se puede)(?: \w+)? (?:decir(?:lo|te|le)?|determinar|saber|"
        r"confirmar|"
        r"asegurar|precisar)"
    ),
    (
        rf"\b{_ES_SOURCE}(?: \w+){{0,4}} no (?:\w+ )?(?:menciona|indica|contiene|especifica|dice|"
        rf"incluye|"
        r"proporciona|aclara)"
    ),
    r"\bno hay (?:\w+ ){0,2}(?:información|datos|mención)",
)
_OTHERS = (
    (
        r"\bnon (?:lo )?so\b(?! \w+re\b)|\bnon (?:ho|dispongo di)(?: \w+){0,3}? (?:informazioni|"
        r"dati|"
        r"dettagli|idea)|\bnon (?:è possibile|posso) (?:dire|determinare|stabilire|confermare)"
    ),
    (
        r"\b(?:contesto|documenti?|testo|fonti) (?:\w+ ){0,3}non (?:menziona|contiene|specifica|"
        r"indica)"
    ),
    (
        r"\bnão sei\b|\bnão (?:tenho|disponho de)(?: \w+){0,3}? (?:informaç|dados|detalhes|ideia)|"
        r"\bnão (?:é possível|posso) (?:dizer|determinar|confirmar|saber)"
    ),
    (
        r"\b(?:contexto|documentos?|texto|fontes) (?:\w+ ){0,3}não (?:menciona|contém|especifica|"
        r"indica)"
    ),
    (
        r"\bik weet (?:het|dat) (?:\w+ )?niet\b|\bik heb (?:\w+ ){0,3}?(?:geen|onvoldoende) "
        r"(?:\w+ )?"
        r"(?:informatie|gegevens|idee)"
    ),
    r"\bnie (?:wiem|mam (?:\w+ ){0,2}informacji|mogę (?:określić|stwierdzić))",
    (
        r"\b(?:я )?не знаю\b|\bу меня нет (?:\w+ ){0,2}(?:информации|данных)|"
        r"\bне могу (?:сказать|определить|подтвердить)"
    ),
)
_EAST = (
    (
        r"我(?:也)?不(?:知道|清楚|确定)|没有(?:足够|相关|提供)*的?(?:信息|资料|数据)|信息不足|"
        r"无法(?:确定|判断|得知|确认)|(?:文中|文档|上下文|资料)[^。]{0,8}(?:没有|未)(?:提到|提及|"
        r"说明|包含)"
    ),
    (
        r"(?:わかりません|分かりません|存じません|判断できません)|(?:情報|記載|"
        r"記述)[^。]{0,6}(?:ありません|ございません|含まれていません|見つかりません)"
    ),
    (
        r"(?:잘 )?모르겠(?:습니다|어요)|(?:정보|자료|내용)(?:가|는|이|은)? ?(?:없습니다|"
        r"부족합니다)|알 수 없(?:습니다|어요)"
    ),
)

ABSTAINS: Phrases = grouped(
    ("n't |not |no |unable|cannot|couldn't|n't", " i |i'| we |we'", _ENGLISH_PERSON),
    (
        "n't|not |no |nowhere|unclear|unable|insufficient|impossible|beyond my|outside|cannot",
        (
            "mention|contain|say|specif|includ|stat|provid|cover|address|indicat|give|answer|tell|"
            "discuss|descri|explain|list|found|information|info|context|data|detail|unclear|clear|"
            "possible|my |determin"
        ),
        _ENGLISH_SOURCE,
    ),
    ("weiß|nicht|kein|unzureichend", _GERMAN),
    ("sais pas|je n|ne di|ne m|ne p|ne c|ne i|ne f|il n'y a|impossible de", _FRENCH),
    ("no ", _SPANISH),
    ("non |não |niet|geen|onvoldoende|nie w|nie m|не знаю|нет |не могу", _OTHERS),
    ("不|没|無|无|未|ません|없|모르", _EAST),
)
"""An answer that says that it does not know, by language."""
