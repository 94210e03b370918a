"""What a request is about, as far as its words tell: terms, numbers, language, kind.

The simulated models write with these and the simulated judge reads with them, so an answer's
quality lies in its text and nowhere else.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

__all__ = ["Topic", "content_words", "read_topic"]

_WORD = re.compile(r"[^\W\d_][\w'\N{RIGHT SINGLE QUOTATION MARK}-]*", re.UNICODE)
_NUMBER = re.compile(r"(?<![\w.])-?\d+(?:[.,]\d+)?(?![\w])")
_CODE = re.compile(r"(?<![\w.-])(?=[\w#-]*\d)(?:[#A-Z][\w#-]{3,}|\d{3,}-[\w-]*\w|\d{6,})(?![\w])")
_EMAIL = re.compile(r"[\w.+-]+@[\w-]+\.[\w.-]*\w")
_DATE = re.compile(r"\b\d{4}-\d{2}-\d{2}\b")
_PROPER = re.compile(r"(?<=[a-z,;:] )[A-Z][\w'-]+(?: [A-Z][\w'-]+){0,2}")
_WRITING = re.compile(
    r"\b(write|draft|compose|rewrite|rephrase|shorten|polish|headlines?|slogan|tagline|blog|essay|"
    r"poem|haiku|limerick|story|speech|toast|vows|notice|newsletter|announcement|caption|leaflet|"
    r"press release|podcast|dialogue|three sentences|text for)\b",
    re.IGNORECASE,
)
_SUPPORT = re.compile(r"\b(i|i'm|i've|my|we|our|me|us)\b", re.IGNORECASE)

_STOPWORDS = {
    "en": "the a an and or but if then to of in on at for from with by is are was were be been am "
    "it its this that these those i you he she we they my your our their me us them do does "
    "did done can could would should will have has had not no so as just very too also there "
    "here what which who how when where why please about into over after before than only any "
    "some all more most other such one out up down again once each both few own same because "
    "while during until i'm i've it's don't can't didn't doesn't isn't get got make want need "
    "like help give tell say says said know think sure thanks thank hello dear going really "
    "still even much many well write answer reply using use used return show shows tells told "
    "look looks looking lookup find found meant mean means start starts began begin left "
    "leave keep keeps kept come comes came goes went took take takes gave gives gets put puts "
    "ask asks asked asking send sent sends seem seems happen happens work works doing stay "
    "stays turn turns turned call calls called arrive arrived expect believe thought feel "
    "feels wants needed tried trying shall must might cannot else ever never always often "
    "already perhaps maybe yesterday today tomorrow",
    "de": "der die das und oder aber wenn dann zu von in im am auf an für aus mit bei ist sind war "
    "waren sein es dies diese dieser ich du er sie wir ihr mein meine dein ihre unser mir mich uns "
    "kann können nicht kein keine so als auch noch schon nur sehr bitte was wer wie wann wo warum "
    "ein eine einen einem einer dem den des hat habe haben wird werden nach vor über unter mehr "
    "soll möchte man sich dass weil vom zum zur ihnen",
    "fr": "le la les un une des et ou mais si alors de du dans sur en à au aux pour par avec est "
    "sont été être il elle ce cette ces je tu nous vous ils mon ma mes votre vos notre ne pas plus "
    "que qui quoi comment quand où pourquoi se son sa ses leur on y me m'a j'ai c'est n'est puis "
    "bien très aussi encore fait faire peut pouvez merci bonjour quel quelle",
    "es": "el la los las un una y o pero si de del en a al por para con es son era ser está están "
    "lo le me te se nos mi mis su sus nuestro que qué quién cómo cuándo dónde no más muy también "
    "ya he ha hay como este esta esto ese esa yo usted ustedes puede puedo quiero favor gracias "
    "hola desde hasta sobre sin cuál cuánto",
    "it": "il lo la gli le un uno una e o ma se di del della dei da in nel nella su per con è sono "
    "era essere ho ha hanno mi ti si ci mio mia suo sua nostro che chi cosa come quando dove non "
    "più molto anche già questo questa quello al alla ai dal dalla posso può vorrei grazie perché",
    "pt": "o os as um uma e ou mas se de do da dos das em no na nos nas por para com é são era ser "
    "está eu você ele ela nós meu minha seu sua que quem como quando onde não mais muito também já "
    "este esta isso ao à pelo pela pode posso quero obrigado obrigada olá tem foi uns até sem qual",
    "nl": "de het een en of maar als dan te van in op aan voor uit met bij is zijn was waren dit "
    "dat deze ik je jij hij zij we wij mijn jouw onze u uw niet geen zo ook nog al heel wat wie "
    "hoe wanneer waar waarom kan kunnen heb heeft hebben wordt naar over meer graag er om mij ons",
}
_STOP: dict[str, frozenset[str]] = {
    name: frozenset(words.split()) for name, words in _STOPWORDS.items()
}
_ALL_STOP = frozenset().union(*(_STOP[name] for name in ("en", "de", "fr", "es", "it", "pt", "nl")))
_LIMIT = 6000  # characters read; the rest of a long document adds no new subject


@dataclass(frozen=True, slots=True)
class Topic:
    """The subject of a request.

    ``words`` are its distinct content words in order, ``phrases`` the same joined where they stand
    side by side, ``names`` its capitalised names. ``numbers``, ``codes`` and ``tokens`` (all
    that stands between spaces) are kept as written.
    """

    language: str
    kind: str
    words: tuple[str, ...]
    phrases: tuple[str, ...]
    numbers: tuple[str, ...]
    codes: tuple[str, ...]
    names: tuple[str, ...]
    emails: tuple[str, ...]
    dates: tuple[str, ...]
    tokens: tuple[str, ...]


def _distinct(found: list[str], limit: int) -> tuple[str, ...]:
    return tuple(dict.fromkeys(found))[:limit]


def content_words(text: str) -> list[str]:
    """Return the words of ``text`` that carry meaning, lower case, in order, with repetitions."""
    return [word for word in _WORD.findall(text.lower()) if len(word) > 3 and word not in _ALL_STOP]


def _language(text: str) -> str:
    words = _WORD.findall(text[:1500].lower())
    counts = {name: sum(word in stop for word in words) for name, stop in _STOP.items()}
    best = max(counts, key=lambda name: counts[name])
    return best if counts[best] > counts["en"] else "en"


def _phrases(text: str) -> list[str]:
    found: list[str] = []
    for clause in re.split(r"[.,;:!?()\[\]{}<>\"\n]+", text):
        run: list[str] = []
        for word in clause.split():
            bare = word.strip("'`*_-/\\")
            if len(bare) > 3 and bare.lower() not in _ALL_STOP and _WORD.fullmatch(bare):
                run.append(bare if bare[1:] != bare[1:].lower() else bare.lower())
                if len(run) == 2:
                    found.append(" ".join(run))
                    run = []
            elif run:
                found.append(run[0])
                run = []
        if run:
            found.append(run[0])
    return found


@lru_cache(maxsize=4096)
def read_topic(text: str) -> Topic:
    """Read what ``text`` is about. Pure; kept for repeated prompts, for speed only."""
    text = text[:_LIMIT]
    kind = "general"
    if _WRITING.search(text[:400]):
        kind = "writing"
    elif _SUPPORT.search(text):
        kind = "support"
    return Topic(
        language=_language(text),
        kind=kind,
        words=_distinct(content_words(text), 24),
        phrases=_distinct(_phrases(text), 16) or ("the request",),
        numbers=_distinct(_NUMBER.findall(text), 12),
        codes=_distinct([code for code in _CODE.findall(text) if not _DATE.match(code)], 6),
        names=_distinct(_PROPER.findall(text), 8),
        emails=_distinct(_EMAIL.findall(text), 4),
        dates=_distinct(_DATE.findall(text), 4),
        tokens=_distinct([token.strip(".,;:!?()\"'") for token in text.split()], 200),
    )
