"""How things are said: spans of time, points, bands by letter, word and shape; nothing that a terminal would obey."""

from dataclasses import dataclass

from schemas.health import Band, Colour
from services.core.instants import DAY, HOUR, MINUTE

NOBODY = "nobody"


@dataclass(frozen=True, slots=True)
class Badge:
    """A band without colour: hollow, with the letter in brackets, where it is provisional."""

    shape: str
    letter: str
    word: str
    is_hollow: bool

    def __str__(self) -> str:
        return f"{self.shape} {self.letter} {self.word}"


WORDS: dict[Band, str] = {"green": "Green", "yellow": "Yellow", "red": "Red", "na": "NA"}
SHAPES: dict[Colour, tuple[str, str]] = {"green": ("●", "○"), "yellow": ("▲", "△"), "red": ("■", "□")}


def badge(band: Band, colour: Colour) -> Badge:
    """The band; while it is not available what the number says, as provisional."""
    full, hollow = SHAPES[colour]
    word = WORDS[colour]
    if band == "na":
        return Badge(hollow, f"({word[0]})", f"NA, provisional {word}", is_hollow=True)
    return Badge(full, word[0], word, is_hollow=False)


def tenths(milli: int) -> str:
    """Milli-points to one decimal: `61.4`."""
    return f"{_rounded(milli):.1f}"


def signed(milli: int) -> str:
    """A difference to one decimal: `-8.2`, `+0.3`."""
    return f"{_rounded(milli):+.1f}" if _rounded(milli) else "0.0"


def _rounded(milli: int) -> float:
    tens = (abs(milli) + 50) // 100
    return (tens if milli >= 0 else -tens) / 10


def exact(milli: int, *, is_signed: bool = False) -> str:
    """Milli-points with all their digits: `-0.042`; where signed also `+0.042`."""
    sign = "-" if milli < 0 else "+" if is_signed and milli else ""
    return f"{sign}{abs(milli) // 1000}.{abs(milli) % 1000:03}"


def plain(text: str) -> str:
    """The text without what a terminal would obey: control characters, and marks that turn the direction of writing."""
    return "".join(letter if letter.isprintable() else "�" for letter in text)


def spoken(name: str | None) -> str:
    """A name of the code in words: `two way contact`."""
    return (name or "").replace("_", " ")


def short(name: str, kind: str) -> str:
    """A handoff's id without its kind, where the id ends with it."""
    return name.removesuffix(f"/{kind}")


def span(time: int) -> str:
    """How long, in words: `3 h 10 min`."""
    if time < MINUTE:
        return "less than a minute"
    if time < HOUR:
        return f"{time // MINUTE} min"
    parts = ((DAY, "d"), (HOUR, "h")) if time >= DAY else ((HOUR, "h"), (MINUTE, "min"))
    (large, name), (small, name_of_rest) = parts
    rest = time % large // small
    return f"{time // large} {name}" + (f" {rest} {name_of_rest}" if rest else "")
