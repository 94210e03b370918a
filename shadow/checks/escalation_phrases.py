"""The phrases by which an assistant hands a conversation over to a person, as data.

Matched in lower case. Each says that it is done or being done; offers ("would you like me to
connect you?") and advice on how to reach someone are other things.
"""

from __future__ import annotations

import re

from shadow.checks.wording import grouped

_ANY = r"[^.?!\n]"
_WHO = (
    r"\b(?:colleagues?|humans?|(?:real |live )?person|agents?|representatives?|specialists?|"
    r"advis[eo]rs?|supervisors?|managers?|operators?|technicians?|experts?|team|staff|someone|"
    r"department|support(?! (?:page|site|article|doc|cent|portal|form)))\b"
)
_I_DO = (
    r"(?:let me|\bi(?:'ll| will| am going to|'m going to|'m| am|'ve| have| shall)|\bi'd like to|"
    r"\bwe(?:'ll| will|'ve| have|'re| are)|hold (?:on )?while i|wait while i|moment while i)"
    r"(?: (?:now|just|gladly|happily|immediately|already|also|be|go ahead and|quickly|then))*"
)
_WHAT = (
    r"(?:you|this|that|it|things|everything|(?:your|the|this|our)(?: \w+){0,2} ?"
    r"(?:conversation|chat|case|ticket|request|question|issue|matter|details|message|concern|"
    r"problem|complaint|inquiry|enquiry|call|account))"
)
_WER = (
    r"(?:kolleg|mitarbeit|berater|ansprechpartner|team|abteilung|support|kundenservice|"
    r"kundendienst|spezialist|experte)"
)
_QUI = (
    r"(?:collègue|conseill|agent|expert|technicien|équipe|service|responsable|spécialiste|"
    r"représentant|support)"
)
_QUIEN = (
    r"(?:compañer|colega|agente|asesor|representante|especialista|supervisor|persona|equipo|"
    r"técnico|departamento|operador)"
)
_CHI = r"(?:collega|operatore|consulente|agente|specialista|responsabile|team|persona)"
_QUEM = r"(?:colega|atendente|agente|consultor|especialista|equipe|pessoa|operador|humano)"
_WIE = r"(?:collega|medewerker|team|specialist|afdeling|adviseur)"

_ENGLISH = (
    (
        rf"{_I_DO} (?:connect|transferr?|hand|pass|forward|refer|rout|redirect|direct|bring)"
        rf"(?:e|ed|ing|ring|red)? {_WHAT}{_ANY}{{0,25}}?\b(?:to|with){_ANY}{{0,25}}{_WHO}"
    ),
    (
        rf"{_I_DO} (?:bring|bringing|brought|loop|looping|looped|get|getting|pull|pulling) "
        rf"(?:in|you)? ?(?:a|an|another|one of|our|the|my|someone)\b{_ANY}{{0,30}}?{_WHO}"
    ),
    rf"{_I_DO} escalat(?:e|ed|ing) {_WHAT}",
    rf"{_I_DO} putt?(?:ing)? you (?:through|in touch)",
    (
        rf"\b(?:this|your \w+|the \w+) (?:has|have) been (?:escalated|handed over|transferred|"
        rf"forwarded|passed on|assigned) to{_ANY}{{0,40}}{_WHO}"
    ),
    (
        rf"\b(?:a|an|one of (?:our|my)|another|someone from|a member of)(?: [\w-]+){{0,3}}? ?"
        rf"{_WHO}(?: member)? (?:will|is going to) (?:be (?:with you|in touch)|take (?:over|it "
        r"from)|get back to|follow up|join|(?:contact|reach out to|call|assist|help|reply to|"
        r"respond to|review|look into) (?:you|this|it)\b)"
    ),
)
_GERMAN = (
    rf"\bich (?:leite|gebe|reiche){_ANY}{{0,60}}{_WER}{_ANY}{{0,30}}weiter\b",
    rf"\bich (?:leite|gebe|reiche){_ANY}{{0,40}}weiter an{_ANY}{{0,30}}{_WER}",
    rf"\bich (?:übergebe|verbinde|eskaliere){_ANY}{{0,40}}\b(?:an|mit|zu){_ANY}{{0,25}}{_WER}",
    rf"\bich (?:ziehe|schalte|hole){_ANY}{{0,30}}{_WER}\w* (?:hinzu|ein|dazu)\b",
    (
        rf"\bich habe{_ANY}{{0,70}}{_WER}\w*{_ANY}{{0,30}}(?:weitergeleitet|weitergegeben|"
        r"übergeben|eingeschaltet|hinzugezogen)"
    ),
    (
        rf"\b(?:ich werde|lassen sie mich|ich möchte){_ANY}{{0,60}}{_WER}\w*{_ANY}{{0,25}}"
        r"(?:verbinden|weiterleiten|weitergeben|übergeben|hinzuziehen|einschalten)"
    ),
    (
        rf"\b(?:eine?r?|unser|jemand aus){_ANY}{{0,30}}{_WER}\w*{_ANY}{{0,20}}"
        r"(?:wird (?:sich|ihnen|sie|dir|dich|das|ihr)|meldet sich|übernimmt|kümmert sich)"
    ),
)
_FRENCH = (
    (
        rf"\bje (?:vous|te) (?:transfère|passe|mets en \w+|redirige|dirige|connecte){_ANY}"
        rf"{{0,40}}{_QUI}"
    ),
    rf"\bje (?:transfère|transmets|fais suivre|escalade){_ANY}{{0,50}}{_QUI}",
    (
        rf"(?:\bje vais|permettez-moi de|laissez-moi) (?:vous|te) (?:transférer|mettre en|"
        rf"passer|rediriger|connecter){_ANY}{{0,40}}{_QUI}"
    ),
    rf"\bje vais (?:transférer|transmettre|escalader|faire suivre){_ANY}{{0,50}}{_QUI}",
    (
        rf"\b(?:une?|l'un|notre){_ANY}{{0,20}}{_QUI}\w*{_ANY}{{0,20}}(?:va vous|prendra|"
        r"vous (?:re)?contactera|vous (?:répondra|rappellera))"
    ),
)
_SPANISH = (
    (
        rf"\b(?:te|le|lo|la|les|os) (?:comunico|paso|transfiero|conecto|derivo|pongo)"
        rf"(?: ahora)? (?:con|a|al|en contacto)\b{_ANY}{{0,30}}{_QUIEN}"
    ),
    (
        rf"(?:\bvoy a|perm[ií]t[ae](?:n)?me|d[eé]j[ae]me) (?:comunicar|pasar|transferir|"
        rf"conectar|derivar|poner|remitir)(?:[lt]e|l[oa]s?|os)\b{_ANY}{{0,40}}{_QUIEN}"
    ),
    (
        rf"(?:\bvoy a (?:escalar|derivar|transferir)|\bhe (?:escalado|derivado|transferido|"
        rf"remitido)) (?:su|tu|el|la|este|esta){_ANY}{{0,60}}{_QUIEN}"
    ),
    (
        rf"\b(?:un|una|nuestro|nuestra){_ANY}{{0,20}}{_QUIEN}\w*{_ANY}{{0,20}}(?:se pondrá|"
        r"se comunicará|(?:le|te|lo|la) (?:atenderá|contactará|llamará|ayudará))"
    ),
)
_OTHERS = (
    rf"\b(?:la|ti|vi) (?:metto in|trasferisco|passo|collego){_ANY}{{0,40}}{_CHI}",
    rf"\b(?:vou|irei)(?: \w+)? (?:transferir|encaminhar|conectar|escalar){_ANY}{{0,50}}{_QUEM}",
    rf"\buma?{_ANY}{{0,20}}{_QUEM}\w*{_ANY}{{0,10}}(?:entrará em|irá te|vai te) ",
    rf"\bik (?:verbind|schakel) {_ANY}{{0,40}}{_WIE}",
    rf"\bik (?:zet|draag|geef) {_ANY}{{0,40}}(?:door|over) (?:naar|aan){_ANY}{{0,20}}{_WIE}",
)

_WHO_HINTS = (
    "colleague|human|person|agent|represent|specialist|advis|supervisor|manager|operator|"
    "technician|"
    "expert|team|staff|someone|department|support|escalat|put you|putting you"
)
HANDS_OVER = grouped(
    (
        _WHO_HINTS,
        ("let me|i'll|i will|i am |i'm |i've|i have|i shall|i'd like|we'll|we will|we've|we have|"
        "we're|we are|while i|been |will |is going to"),
        _ENGLISH,
    ),
    ("ich |meldet sich|übernimmt|kümmert sich|wird |lassen sie mich", ("kolleg|mitarbeit|berater|"
     "ansprechpartner|team|abteilung|support|kundenservice|kundendienst|spezialist|experte"),
     _GERMAN),
    (("je v|je t|je m|je f|je e|je p|je r|je d|je c|va vous|prendra|contactera|répondra|rappellera|"
     "moi de"), _FRENCH),
    (("comunic|paso |pasar|transf|conect|deriv|pong|poner|remit|escala|pondrá|atenderá|contactará|"
     "llamará|ayudará"), ("compañer|colega|agente|asesor|representante|especialista|supervisor|"
     "persona|equipo|técnico|departamento|operador"), _SPANISH),
    (("metto in|trasferisco|passo|collego|vou |irei|entrará em|irá te|vai te|ik verbind|ik schakel|"
     "ik zet|ik draag|ik geef"), _OTHERS),
)  # fmt: skip
"""An answer in which its writer hands the conversation over, by language."""

TOOL = re.compile(
    r"(?:escalat|(?:transfer|hand|connect|forward|route|talk|speak|switch)\w*_?(?:off_?|"
    r"over_?)?to_?)"
    r"\w*(?:human|person|live_?agent|representative|operator|supervisor|support_?agent|staff)"
    r"|\bescalat\w*|\bhuman_?(?:handoff|handover|agent|support|takeover)|\brequest_?human|"
    r"\bcontact_?human"
)
"""Names, in lower case, by which tools that hand over to a person are commonly known."""
