"""The phrases by which refusals are known, as data. All are matched in lower case.

Written from how assistants decline in each language; `NOT_A_REFUSAL` is taken out of the text
first, so that sympathy and quoted rules do not count.
"""

from __future__ import annotations

from shadow.checks.wording import any_of

_CANT = r"(?:can(?:'t|not| not)|am (?:not able|unable) to|'m (?:not able|unable) to|won't|will not)"
_MUST_NOT = r"(?:must|have to|need to|'ll have to|will have to)"
_HELP = (
    r"(?:help|assist|comply|fulfil+|provide|do that|do this|answer|support|write|create|generate|"
    r"share|give|offer|discuss|engage|continue|participate|produce|tell|support|recommend|advise|"
    r"create|process th(?:is|at) request|honou?r)"
)

HINTS: tuple[str, ...] = (
    "n't", "not", "unable", "declin", "refus", "against", "won't",
    "nicht", "kein", "ablehn", "leid", "entschuldigung", "bedaure",
    "ne peux", "ne puis", "ne suis", "ne pourrai", "n'ai pas", "déclin",
    "no p", "no m", "no es", "no tengo", "rechaz", "negar",
    "non p", "non s", "non m", "non ho", "rifiut", "não ",
    "niet", "geen", "kan ik", "ik kan", "nie mog", "nie jestem", "не ",
    "不", "无法", "無法", "ません", "かねます", "없",
)  # fmt: skip
"""Every phrase below contains one of these; an answer without any needs no further look."""

NOT_A_REFUSAL = any_of(
    r"(?:i'm|i am|we're|we are|so) (?:so |very |really |truly |deeply )?sorry (?:to hear|"
    r"for (?:the|your|any)|about|that (?:you|your|this|it)|you(?:'re| are|'ve| have))",
    r"(?:we |i )?(?:sincerely )?apologi[sz]e for",
    r"es tut mir (?:sehr |wirklich )?leid(?:,)? (?:zu hören|dass|für)",
    r"(?:je suis|nous sommes) (?:vraiment )?(?:désolée?s?|navrée?s?) (?:d'apprendre|pour|que)",
    r"(?:siento|lamento|lamentamos) (?:mucho )?(?:oír|escuchar|saber|que|las molestias)",
    r"(?:mi dispiace|ci dispiace) (?:molto )?(?:sapere|sentire|per|che)",
    r"(?:sinto|lamento|lamentamos) (?:muito )?(?:saber|ouvir|por|que|pelo)",
    r"i can't (?:wait|believe|imagine|thank you enough|stress enough|help but|emphasi[sz]e)",
    r"(?:i|you) cannot (?:stress|emphasi[sz]e) enough",
    r"(?:don't|do not) hesitate",
)

CAPABILITY = any_of(
    r"i (?:can't|cannot|am unable to|'m unable to|don't have the ability to|am not able to)"
    r" (?:directly )?(?:access|open|browse|see|view|hear|listen|watch|look up|check|read|verify|"
    r"retrieve|download|click|call|phone|remember|recall) ",
    r"i don't have (?:direct |real-time |live )*(?:access|the ability|visibility|information about "
    r"your)",
    r"(?:ich kann|ich habe) (?:leider )?(?:keine links|keinen (?:direkten )?zugriff)",
    r"je n'ai pas (?:directement )?accès",
    r"no tengo acceso",
    r"non ho accesso",
    r"não tenho acesso",
    r"我无法(?:访问|打开|浏览|查看)",
)

CLARIFIES = any_of(
    r"could you", r"can you (?:tell|share|provide|confirm|clarify)", r"which ", r"what (?:is|are)",
    r"would you like", r"do you (?:mean|want)", r"please (?:share|provide|confirm|clarify)",
    r"können sie", r"könnten sie", r"welche", r"pourriez-vous", r"pouvez-vous", r"quel",
    r"podrías", r"puedes", r"podría", r"cuál", r"potresti", r"quale", r"você pode", r"qual ",
    r"请问", r"能否", r"どの", r"어떤",
)  # fmt: skip

REFUSES = any_of(
    # English
    rf"\b(?:i|we)(?: |')?(?:'?m sorry,? (?:but )?)?(?: ?(?:simply|really|also) )?{_CANT} "
    rf"(?:to )?(?:\w+ ){{0,2}}{_HELP}",
    rf"\bi {_MUST_NOT} (?:respectfully |politely )?(?:decline|refuse)",
    r"\b(?:i|we) (?:respectfully |politely )?(?:decline|refuse) (?:to|this|your)",
    r"(?:i'm|i am) (?:very |so )?(?:sorry|afraid)(?:,)? (?:but )?(?:i |that i |that's |this |that )"
    r"(?:can't|cannot|can not|am unable|'m unable|am not able|won't|is not something|isn't|"
    r"not something|is against)",
    r"\bsorry,? (?:but )?(?:i|we) (?:can't|cannot|won't|am unable|'m unable|am not able)",
    r"(?:i'm|i am) not (?:able|comfortable|willing|allowed|permitted) "
    r"(?:to|with|helping|providing)",
    r"(?:i'm|i am) unable to (?:\w+ ){0,2}" + _HELP,
    r"(?:it|that|this|this request|your request|doing so) (?:is|would be|goes|would go) "
    r"(?:against|in violation of) (?:my|our|the) "
    r"(?:\w+ )?(?:guidelines|policy|policies|programming|rules|principles)",
    r"as an ai(?: language)?(?: model| assistant)?,? i (?:can't|cannot|am not able|am unable|"
    r"don't feel|must)",
    r"(?:that's|that is|this is) not something i can (?:help|do|assist|provide|share)",
    r"not something i(?:'m| am) able to",
    # German
    r"(?:das|dabei|damit|hierbei|hiermit|diese[rn]? (?:bitte|anfrage|wunsch)) kann ich (?:ihnen |"
    r"dir |euch )?(?:leider )?nicht",
    r"ich (?:kann|darf|werde|möchte) (?:ihnen |dir |euch |das |dies |dabei |damit |hierzu |dazu )*"
    r"(?:leider )?(?:(?:das|dabei|damit|hierzu|dazu|diese\w*) )*(?:\w+ )?nicht (?:\w+ ){0,3}"
    r"(?:helfen|unterstützen|beantworten|erfüllen|weiterhelfen|bereitstellen|tun|machen|erstellen|"
    r"nachkommen|geben|schreiben|anbieten)",
    r"ich (?:muss|musste) (?:das |dies |diese anfrage |ihre anfrage |leider )*ablehnen",
    r"(?:tut mir leid|entschuldigung|bedaure),? (?:aber )?"
    r"(?:ich kann|das kann|dabei kann|das geht)",
    # French
    r"je ne (?:peux|puis|suis pas en mesure|pourrai)(?: malheureusement)?(?: pas)? (?:\w+ ){0,2}"
    r"(?:aider|répondre|fournir|faire|donner|assister|écrire|créer|accéder à (?:cette|votre) "
    r"demande|satisfaire)",
    r"je ne (?:peux|puis) (?:malheureusement )?pas (?:vous |t'|t |y |le )",
    r"je (?:dois|suis obligée? de) (?:refuser|décliner)",
    r"(?:désolée?|navrée?),? (?:mais )?je ne (?:peux|puis|suis)",
    # Spanish
    r"no (?:puedo|podemos|me es posible|me está permitido) (?:ayudar|asistir|proporcionar|"
    r"responder|hacer|cumplir|ofrecer|dar|escribir|crear|compartir|participar)",
    r"(?:lo siento|disculpa|perdona|lamento),? (?:pero )?no (?:puedo|podemos|es posible)",
    r"(?:debo|tengo que) (?:rechazar|negarme|declinar)",
    # Italian
    r"non (?:posso|sono in grado di|mi è possibile|potrò) (?:aiutar|fornir|rispond|far|scriver|"
    r"soddisf|assister|dar|crear|condivid)",
    r"(?:mi dispiace|spiacente|scusa),? (?:ma )?non (?:posso|sono in grado)",
    r"devo (?:rifiutare|declinare)",
    # Portuguese
    r"não (?:posso|consigo|podemos|me é possível) (?:ajudar|ajudá|fornecer|responder|fazer|atender|"
    r"escrever|criar|oferecer|dar|compartilhar|auxiliar)",
    r"(?:desculpe|lamento|sinto muito),? (?:mas )?não (?:posso|consigo|é possível)",
    # Dutch
    r"ik (?:kan|mag|ga) (?:u |je |jou |daar |hier |dat |dit |helaas )*(?:niet|geen) (?:\w+ ){0,3}"
    r"(?:helpen|voldoen|geven|doen|verstrekken|beantwoorden|schrijven|maken)",
    r"(?:sorry|het spijt me|helaas),? (?:maar )?(?:ik kan|dat kan ik|daar kan ik)",
    # Polish
    r"nie (?:mogę|jestem w stanie) (?:\w+ ){0,2}(?:pomóc|odpowiedzieć|spełnić|zrobić|podać|"
    r"udzielić|napisać|dostarczyć)",
    r"(?:przykro mi|przepraszam),? (?:ale )?nie mogę",
    # Russian
    r"(?:я )?не (?:могу|смогу|имею права|буду) (?:\w+ ){0,2}(?:помочь|помогать|ответить|выполнить|"
    r"предоставить|написать|сделать|дать|обсуждать)",
    r"(?:извините|простите|к сожалению|мне жаль),? (?:но )?(?:я )?не (?:могу|смогу)",
    # Chinese, Japanese, Korean
    r"我(?:不能|无法|不會|無法|不可以)(?:为您|为你|為您|為你|向您|向你)?(?:提供|帮助|協助|协助|幫助|回答|满足|"
    r"滿足|完成|生成|编写|撰寫|讨论|討論)",
    r"(?:抱歉|对不起|對不起|很遗憾)[,,、]?\s?(?:但)?我?(?:不能|无法|無法)",
    r"(?:お手伝い|お答え|ご提供|対応|お応え|回答|支援)(?:を)?(?:する(?:こと)?(?:は|が))?"
    r"(?:することは|することが)?(?:いたしかねます|しかねます|できません|できかねます)",
    r"(?:申し訳(?:ありません|ございません)|すみません)(?:が|けど)[、,]?.{0,40}(?:できません|かねます)",
    r"(?:도와드릴|도울|제공할|답변할|답변드릴|제공해 드릴|응할|작성할) 수 (?:없습니다|없어요|없습)",
    r"(?:죄송(?:합니다|하지만)).{0,40}수 없(?:습니다|어요)",
)
