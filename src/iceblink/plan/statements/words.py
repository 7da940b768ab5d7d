"""The words of a statement, read one after the other; what does not fit is shown in its place."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TypeVar

from iceblink.errors import SqlError, nearest
from iceblink.plan.sql import QueryText, point_at_place

Item = TypeVar("Item")

_SKIPPED = re.compile(r"(?:\s+|--[^\n]*|/\*.*?\*/)*", re.DOTALL)
_TOKEN = re.compile(
    r"""(?P<string>'(?:[^']|'')*')
    | (?P<quoted>"(?:[^"]|"")*"|`(?:[^`]|``)*`)
    | (?P<number>\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)
    | (?P<word>\w+)
    | (?P<sign>=>|\S)""",
    re.VERBOSE,
)


def is_word(name: str) -> bool:
    """Whether a name needs no quotes."""
    return re.fullmatch(r"[^\W\d]\w*", name) is not None


@dataclass(frozen=True)
class Token:
    """One word, name, text, number or sign, and where it is in the statement."""

    kind: str
    text: str
    start: int
    end: int

    def says(self, word: str) -> bool:
        """Whether it is this keyword, in any case, or this sign."""
        return self.kind in ("word", "sign") and self.text.upper() == word


class Words:
    """A statement being read, from left to right. What is read is taken; what does not fit is an `SqlError`.

    Parameters
    ----------
    text : str
        Words and names as SQL has them: names quoted with ``"`` or `````, texts with ``'``, ``--`` and ``/* */``
        comments.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.next = self._token(0)
        self._with: tuple[int, int] | None = None

    def _token(self, place: int) -> Token:
        skipped = _SKIPPED.match(self.text, place)
        assert skipped is not None  # it may be empty
        start = skipped.end()
        found = _TOKEN.match(self.text, start)
        if found is None:
            return Token("end", "", start, start)
        kind = found.lastgroup or ""
        if found[0] in ("'", '"', "`"):
            raise SqlError("a quote is left open", self._place(start), f"close it with {found[0]}")
        return Token(kind, found[0], start, found.end())

    def _place(self, start: int) -> str:
        return point_at_place(self.text, start)

    def fail(self, what: str, hint: str = "") -> SqlError:
        """Return an error that points at what comes next."""
        return SqlError(what, self._place(self.next.start), hint)

    def take(self) -> Token:
        """Take whatever comes next."""
        taken = self.next
        self.next = self._token(taken.end)
        return taken

    def has(self, *words: str) -> bool:
        """Whether these keywords or signs come next."""
        token = self.next
        for word in words:
            if not token.says(word):
                return False
            token = self._token(token.end)
        return True

    def accept(self, *words: str) -> bool:
        """Take these keywords or signs if they come next, and tell whether they did."""
        if not self.has(*words):
            return False
        for _ in words:
            self.take()
        return True

    def expect(self, *words: str, hint: str = "") -> None:
        """Take these keywords or signs."""
        for word in words:
            if not self.accept(word):
                raise self.fail(f"expected {word}, found {self.found}", hint)

    def one_of(self, words: Collection[str], what: str) -> str:
        """Take one of these keywords, and return it in upper case."""
        if self.next.kind != "word" or self.next.text.upper() not in words:
            hint = nearest(self.next.text.upper(), words, "words here")
            raise self.fail(f"expected {what}, found {self.found}", hint)
        return self.take().text.upper()

    @property
    def found(self) -> str:
        """What comes next, for an error."""
        return "the end" if self.next.kind == "end" else self.next.text

    def name(self, what: str = "a name") -> str:
        """Take one name, quoted or not."""
        if self.next.kind == "quoted":
            quote = self.next.text[0]
            return self.take().text[1:-1].replace(quote * 2, quote)
        if self.next.kind != "word":
            raise self.fail(f"expected {what}, found {self.found}")
        return self.take().text

    def dotted(self, what: str = "a name") -> str:
        """Take names with dots between."""
        parts = [self.name(what)]
        while self.accept("."):
            parts.append(self.name(what))
        return ".".join(parts)

    def string(self, what: str = "a text") -> str:
        """Take a text in quotes of either kind."""
        if self.next.kind == "string":
            return self.take().text[1:-1].replace("''", "'")
        if self.next.kind == "quoted":
            return self.name()
        raise self.fail(f"expected {what} in quotes, found {self.found}")

    def number(self, what: str = "a number") -> int:
        """Take a whole number."""
        if self.next.kind != "number" or not self.next.text.isdecimal():
            raise self.fail(f"expected {what}, found {self.found}")
        return int(self.take().text)

    def literal(self) -> str | int | float | bool | bytes | None:
        """Take a value: a text, a number, TRUE, FALSE, NULL, or bytes as X'00ff'; DATE and TIMESTAMP change nothing."""
        for word, value in (("TRUE", True), ("FALSE", False), ("NULL", None)):
            if self.accept(word):
                return value
        if self.next.kind == "word" and self.next.text.upper() in ("DATE", "TIMESTAMP"):
            self.take()
            return self.string()
        if self.next.kind == "string":
            return self.string()
        if self.next.says("X"):
            return self._bytes()
        sign = -1 if self.accept("-") else 1
        if self.next.kind != "number":
            hint = "write a text in '', a number, TRUE, FALSE or NULL"
            raise self.fail(f"expected a value, found {self.found}", hint)
        text = self.take().text
        return sign * (int(text) if text.isdecimal() else float(text))

    def _bytes(self) -> bytes:
        self.take()
        begins = self.next
        try:
            return bytes.fromhex(self.string("bytes"))
        except ValueError:
            self.next = begins
            raise self.fail("these are no bytes", "write two hexadecimal digits for each: X'00ff'") from None

    def several(self, item: Callable[[], Item]) -> list[Item]:
        """Take items with commas between."""
        items = [item()]
        while self.accept(","):
            items.append(item())
        return items

    def listed(self, item: Callable[[], Item]) -> list[Item]:
        """Take items in parentheses, with commas between."""
        self.expect("(")
        items = self.several(item)
        self.expect(")")
        return items

    def once(self, pairs: Sequence[tuple[str, Item]]) -> dict[str, Item]:
        """Return names and what they were given; raises SqlError for a name that was given something twice."""
        names = [name for name, _ in pairs]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise self.fail(f"{twice!r} is given twice", "give it once")
        return dict(pairs)

    def query(self) -> QueryText:
        """Take all that is left, which is a query."""
        if self.next.kind == "end":
            raise self.fail("expected a query, found the end", "write SELECT ... or VALUES (...)")
        start = self.next.start
        self.next = self._token(len(self.text))
        if self._with is None:
            return QueryText(self.text, start)
        begin, end = self._with
        return QueryText(self.text, begin, (end, start))

    def pass_with(self) -> None:
        """Pass over ``WITH a AS (...), b AS (...)`` before a statement: it belongs to the query at the end."""
        begin = self.next.start
        self.expect("WITH")
        self.accept("RECURSIVE")
        while True:
            self.name("the name of a query")
            if self.has("("):
                self._pass_parentheses()
            self.expect("AS")
            self.accept("NOT")
            self.accept("MATERIALIZED")
            self._pass_parentheses()
            if not self.accept(","):
                break
        self._with = begin, self.next.start

    def _pass_parentheses(self) -> None:
        self.expect("(")
        depth = 1
        while depth:
            if self.next.kind == "end":
                raise self.fail("expected ), found the end")
            sign = self.take()
            depth += sign.says("(") - sign.says(")")

    def end(self, hint: str = "") -> None:
        """Take the end of the statement."""
        stopped = self.accept(";")
        if self.next.kind != "end":
            if stopped:
                raise self.fail("a second statement begins here", "call sql() once for each")
            raise self.fail(f"did not expect {self.found} here", hint)
