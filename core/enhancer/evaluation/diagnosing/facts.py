"""Find names, years and numbers in notes that the texts they were written from do not have. No LLM is needed.

The rules know capitals and digits, and hardly any language:

- A word is a name where it stands with a capital inside sentences more often than without one, over all notes. So the
  first word of a sentence is a name only if other notes show it to be one. General capitalised words such as
  "American", which many notes have, are not counted.
- Where many words inside sentences have a capital, frequent ones too, as German nouns do, only two or more such words
  in a row are a name. Notes in scripts without capitals have no names that can be found.
- A name is in the text if each of its words is, without regard to case, accents and endings ("Hitchcockian" for
  "Hitchcock"). Names are not compared between scripts.
- A decade ("1990s", "90er") or a century ("19th") is in the text if a year of it is. A number is also in the text as a
  word ("seven"), a Roman numeral, or a part of a date. Numbers written as words are not counted in notes. Digits after
  a name ("Apollo 13") belong to it, and digits within words ("U2", "24/7") are not numbers.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from enhancer.evaluation.diagnosing.wording import ProfileAndText

FactKind = Literal["name", "year", "number"]
COMMON = 0.02
"""Share of the notes that have a capitalised word from which it is general vocabulary and not a name."""
_MIN_COMMON = 10
"""Minimum number of notes that make a capitalised word general vocabulary."""
NOUN_CAPITALS = (0.20, 0.25)
"""Share of the words inside sentences, and share of the frequent words of four letters or more, that have a capital,
from which nouns have capitals in general."""
_MIN_FREQUENT = 10
"""Minimum number of frequent words that show how nouns are written."""
_EXAMPLES, _FACTS_SHOWN = 5, 6
_WORD = re.compile(r"[^\W\d_]+(?:['\u2019][^\W\d_]+)*")
_TOKEN = re.compile(rf"{_WORD.pattern}|(?<![^\W_])\d{{1,3}}(?![^\W_]|[.,]\d)")
_NUMBER = re.compile(r"(?<![^\W_])(?<![^\W\d_]-)(?<!/)\d+(?:[.,]\d+)*(?!\d*/)")
_DIGITS = re.compile(r"\d+")
_GROUPED = re.compile(r"\d{1,3}(?:[.,]\d{3})+")
_ATTACHED = re.compile(r"['\u2019]?-?([^\W\d_]+)")
_BOUNDARY = re.compile(r"[.!?:…\n\"“”«»„(\[¿¡•|]")
_POSSESSIVE = re.compile(r"['\u2019]s?$")
_ROMAN = re.compile(r"(?=[ivxlcdm])m{0,3}(?:cm|cd|d?c{0,3})(?:xc|xl|l?x{0,3})(?:ix|iv|v?i{0,3})")
_ROMAN_VALUES = {"i": 1, "v": 5, "x": 10, "l": 50, "c": 100, "d": 500, "m": 1000}
_FIRST_YEAR, _LAST_YEAR = 1000, 2199
_ORDINALS = frozenset({"st", "nd", "rd", "th", "e", "ème", "eme", "º", "ª"})
_NUMERALS = (  # from 1 on
    "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen",
    "eins zwei drei vier fünf sechs sieben acht neun zehn elf zwölf",
    "un deux trois quatre cinq six sept huit neuf dix onze douze",
    "uno dos tres cuatro cinco seis siete ocho nueve diez once doce",
    "uno due tre quattro cinque sei sette otto nove dieci undici dodici",
    "um dois três quatro cinco seis sete oito nove dez onze doze",
)
_TENS = "ten twenty thirty forty fifty sixty seventy eighty ninety"


class Fact(NamedTuple):
    """A name, a year or a number in a note."""

    kind: FactKind
    words: str
    forms: tuple[str, ...] = ()
    """Normal forms of the words of a name that its text must have."""


@dataclass(frozen=True, slots=True)
class FactStats:
    """Names, years and numbers of notes, and those that the texts do not have."""

    notes: int
    """Notes whose entity has a text."""
    facts: dict[FactKind, int]
    """Number of facts by kind."""
    unsupported: dict[FactKind, int]
    """Of :attr:`facts`, those that the text does not have."""
    notes_with_unsupported: int
    names: Literal["all", "in a row", "none"]
    """Which names were looked for: all, only capitalised words in a row, or none, for want of capitals."""
    examples: list[tuple[str, list[str]]] = field(default_factory=list)
    """Ids and unsupported facts of the notes with most of them."""

    @property
    def share(self) -> float:
        """Share of the notes that have a fact which their text does not have."""
        return self.notes_with_unsupported / self.notes if self.notes else 0.0


class _Token(NamedTuple):
    form: str
    """Normal form: without case, accents and possessive ending."""
    shown: str
    capital: bool
    opens: bool
    """Whether it is the first word of a sentence, a quotation or a bracket."""
    follows: bool
    """Whether nothing but a space or a hyphen is between it and the word before."""


class Vocabulary:
    """Spellings of the words of many notes.

    Args:
        texts: All notes.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        self._small: Counter[str] = Counter()
        self._capital: Counter[str] = Counter()
        inside = capitals = notes = 0
        self.has_capitals = False
        """Whether the notes are in a script with capitals."""
        for text in texts:
            notes += 1
            small, capital = set(), set()
            for token in _tokens(text):
                if token.shown.isdigit():
                    continue
                if token.capital and not token.opens:
                    capital.add(token.form)
                elif not token.capital:
                    small.add(token.form)
                inside += not token.opens
                capitals += token.capital and not token.opens
            self._small.update(small)
            self._capital.update(capital)
            self.has_capitals = self.has_capitals or text.lower() != text.upper()
        self._common = max(_MIN_COMMON, COMMON * notes)
        frequent = [
            self._capital[form] > self._small[form]
            for form in {*self._small, *self._capital}
            if len(form) > 3 and self._small[form] + self._capital[form] >= max(5, COMMON * notes)
        ]
        self.nouns_have_capitals = (
            capitals > NOUN_CAPITALS[0] * inside
            and len(frequent) >= _MIN_FREQUENT
            and sum(frequent) > NOUN_CAPITALS[1] * len(frequent)
        )
        """Whether capitals do not tell names from other nouns."""

    def is_name(self, form: str) -> bool:
        """Return whether a word is a name: capitalised inside sentences, and not general vocabulary."""
        return self._small[form] < self._capital[form] < self._common

    def is_small(self, form: str) -> bool:
        """Return whether a word is ever written without a capital."""
        return self._small[form] > 0


def fact_stats(notes: Iterable[ProfileAndText], vocabulary: Vocabulary) -> FactStats:
    """Count facts, and those that are not in the text of the note's entity.

    Args:
        notes: Notes with the texts that they were written from; those without a text are left out.
        vocabulary: Vocabulary of all notes, those of other aspects too.
    """
    facts: Counter[FactKind] = Counter()
    missing: Counter[FactKind] = Counter()
    found: list[tuple[str, list[str]]] = []
    checked = 0
    for each in notes:
        if not each.text.strip() or not each.profile:
            continue
        checked += 1
        facts_of_note = list(facts_in(each.profile, vocabulary))
        facts.update(fact.kind for fact in facts_of_note)
        source = _Source(each.text)
        unsupported = [fact for fact in facts_of_note if not source.has(fact)]
        missing.update(fact.kind for fact in unsupported)
        if unsupported:
            found.append((each.id, [fact.words for fact in unsupported]))
    worst = sorted(found, key=lambda one: -len(one[1]))[:_EXAMPLES]
    return FactStats(
        notes=checked,
        facts=dict(facts),
        unsupported=dict(missing),
        notes_with_unsupported=len(found),
        names="none" if not vocabulary.has_capitals else "in a row" if vocabulary.nouns_have_capitals else "all",
        examples=[(id_, words[:_FACTS_SHOWN]) for id_, words in worst],
    )


def unsupported_facts(note: str, text: str, vocabulary: Vocabulary) -> list[Fact]:
    """Return the names, years and numbers of a note that its text does not have."""
    source = _Source(text)
    return [fact for fact in facts_in(note, vocabulary) if not source.has(fact)]


def facts_in(note: str, vocabulary: Vocabulary) -> Iterator[Fact]:
    """Yield the distinct names, years and numbers of a note, in their order."""
    note = unicodedata.normalize("NFKC", note)
    names = list(_names(note, vocabulary))
    in_names = {form for name in names for form in name.forms if form.isdigit()}
    numbers = (fact for fact in _numbers(note) if fact.words not in in_names)
    yield from {(fact.kind, fact.words): fact for fact in (*names, *numbers)}.values()


def _tokens(text: str) -> Iterator[_Token]:
    end, before = 0, ""
    for match in _TOKEN.finditer(text):
        gap, word = text[end : match.start()], match.group()
        initial = len(before) == 1 and before.isupper() and gap.strip() in (".", "")
        opens = not before or (bool(_BOUNDARY.search(gap)) and not initial)
        joined = bool(before) and not opens and gap in (" ", "-", "\u2011", ". ", "\u00a0")
        yield _Token(_form(word), word, word[0].isupper() or word[0].istitle(), opens, joined)
        end, before = match.end(), word


@lru_cache(maxsize=100_000)
def _form(word: str) -> str:
    plain = unicodedata.normalize("NFKD", _POSSESSIVE.sub("", word)).casefold()
    return "".join(c for c in plain if not unicodedata.combining(c)).replace("'", "").replace("\u2019", "")


def _names(note: str, vocabulary: Vocabulary) -> Iterator[Fact]:
    run: list[_Token] = []
    for token in (*_tokens(note), None):
        if token is not None and run and token.follows and (token.capital or token.shown.isdigit()):
            run.append(token)
            continue
        yield from _name(run, vocabulary)
        run = [token] if token is not None and token.capital else []


def _name(run: Sequence[_Token], vocabulary: Vocabulary) -> Iterator[Fact]:
    """Yield the name that a run of capitalised words is, if it is one."""
    # A sentence may open with an ordinary word before a name: "Before Tom Hanks".
    while run and (len(run[0].form) < 2 or (run[0].opens and not _opens_name(run, vocabulary))):
        run = run[1:]
    own = [token for token in run if _counts(token, vocabulary)]
    if len(own) > vocabulary.nouns_have_capitals:
        needed = [token for token in run if token in own or not vocabulary.is_small(token.form)]
        shown = _POSSESSIVE.sub("", " ".join(token.shown for token in run))
        yield Fact("name", shown, tuple(token.form for token in needed))


def _opens_name(run: Sequence[_Token], vocabulary: Vocabulary) -> bool:
    first = run[0]
    if vocabulary.is_name(first.form):
        return True
    return len(run) > 1 and not vocabulary.is_small(first.form) and vocabulary.is_name(run[1].form)


def _counts(token: _Token, vocabulary: Vocabulary) -> bool:
    return len(token.form) > 1 and vocabulary.is_name(token.form) and not _ROMAN.fullmatch(token.form)


def _numbers(note: str) -> Iterator[Fact]:
    for match in _NUMBER.finditer(note):
        digits = match.group()
        attached = _ATTACHED.match(note, match.end())
        ending = attached.group(1) if attached is not None and "-" not in attached.group() else ""
        if ending[:1].isupper() or (len(digits) == 1 and ending == "d"):  # "2Pac", "3D"
            continue
        is_year = digits.isdigit() and len(digits) == 4 and _FIRST_YEAR <= int(digits) <= _LAST_YEAR
        decade = digits.isdigit() and len(digits) in (2, 4) and digits.endswith("0") and bool(ending)
        yield Fact("year" if is_year or decade else "number", digits + ending)


class _Source:
    """The words and numbers of an entity's text."""

    def __init__(self, text: str) -> None:
        text = unicodedata.normalize("NFKC", text)
        self._forms = {_form(word) for word in _WORD.findall(text)}
        self._compact = "".join(c for c in _form(text) if c.isalnum())
        self._has_capitals = text.lower() != text.upper()
        self._numbers = {_value(digits) for digits in _NUMBER.findall(text)}
        self._numbers |= {str(int(digits)) for digits in _DIGITS.findall(text)}
        self._numbers |= {number for form in self._forms for number in _numbers_of(form)}
        self._years = {int(n) for n in self._numbers if n.isdigit() and _FIRST_YEAR <= int(n) <= _LAST_YEAR}

    def has(self, fact: Fact) -> bool:
        """Return whether the text has a fact, or cannot be compared with it."""
        if fact.kind == "name":
            as_one = "".join(fact.forms)
            if not self._has_capitals or (len(as_one) > 4 and as_one in self._compact):
                return True
            return all(form in self._numbers or self._has_word(form) for form in fact.forms)
        match = _NUMBER.match(fact.words)
        assert match is not None
        number, ending = _value(match.group()), fact.words[match.end() :]
        if number in self._numbers:
            return True
        if not number.isdigit():
            return False
        value = int(number)
        if ending in _ORDINALS or (fact.kind == "number" and value in range(10, 22)):
            return any((year - 1) // 100 + 1 == value for year in self._years)
        if value % 10 == 0 and (ending or fact.kind == "number"):
            return any(year // 10 * 10 % (100 if value < 100 else 10_000) == value for year in self._years)
        return False

    def _has_word(self, form: str) -> bool:
        if form in self._forms or (len(form) > 4 and form in self._compact):
            return True
        return any(_related(form, other) for other in self._forms)


def _related(one: str, other: str) -> bool:
    """Return whether two words begin alike, up to an ending."""
    if one[:4] != other[:4] or min(len(one), len(other)) < 4:
        return False
    common = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    return common >= 0.75 * min(len(one), len(other))


def _value(digits: str) -> str:
    """Return a number without separators of thousands and leading zeros."""
    plain = re.sub(r"[.,]", "", digits) if _GROUPED.fullmatch(digits) else digits.replace(",", ".")
    return str(int(plain)) if plain.isdigit() else plain


def _numbers_of(form: str) -> Iterator[str]:
    """Yield the numbers that a word stands for."""
    if form in _WORD_VALUES:
        yield from _WORD_VALUES[form]
    elif _ROMAN.fullmatch(form):
        values = [_ROMAN_VALUES[letter] for letter in form]
        yield str(sum(-v if any(v < w for w in values[i + 1 : i + 2]) else v for i, v in enumerate(values)))


def _word_values() -> dict[str, set[str]]:
    values: dict[str, set[str]] = {}
    for row in _NUMERALS:
        for number, word in enumerate(row.split(), start=1):
            values.setdefault(_form(word), set()).add(str(number))
    for number, word in enumerate(_TENS.split(), start=1):
        values.setdefault(word, set()).add(str(10 * number))
        values.setdefault(word[:-1] + "ies", set()).add(str(1900 + 10 * number))
    return values


_WORD_VALUES = _word_values()
