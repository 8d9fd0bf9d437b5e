"""Exponentially decayed sums as exact integers: any order of facts gives the same bits, and a fact can be taken back.

A sum of half-life h is worth A(t) = Σ w·2^(−(t−t_e)/h) at the time t, over facts of weight w at times t_e. Kept is
A(t)·2^(t/h), which does not change as time passes (forward decay: Cormode, Shkapenyuk, Srivastava, Xu, "Forward
decay: a practical time decay model for streaming systems", ICDE 2009), as an integer of 60 fractional bits. Sums of
two accounts are merged by +, and one is parted from the other by −.

2^x is the platform's: between two C libraries an integer may differ by about one part in 2^52 of a fact, within one
never.
"""

import math

from services.core.instants import DAY, Instant

# An integer grows by a bit each half-life since 1970: by 2030 3,130 bits at 7 days, and 22,000 at one day.
SHORTEST = 7 * DAY

_FRACTION = 60  # bits; a double has 53, so that a fact of weight 1/128 or more is kept as exactly as a float has it
_UNIT = 2.0**_FRACTION
_PRECISE = 64  # leading bits that are read: more than a double holds
_LN2 = math.log(2)


def add(total: int, at: Instant, weight: float, half_life: int) -> int:
    """`total` with a fact of this weight at `at`; the negative weight takes the same fact back, to the last bit.

    `half_life` in microseconds. ValueError for one below 7 days, and for a fact before 1970.
    """
    whole, part = _split(at, half_life)
    if whole < 0:
        raise ValueError(f"The time {at} µs lies before 1970, where no sum begins; correct the time of the fact.")
    return total + (round(weight * math.exp2(part) * _UNIT) << whole)


def read(total: int, at: Instant, half_life: int) -> float:
    """What the sum is worth at `at`, to some twelve digits, also after a thousand half-lives; then 0.

    OverflowError where the facts lie so far *after* `at` (a thousand half-lives, at least 19 years).
    """
    whole, part = _split(at, half_life)
    # The integer itself is too long for a float: shorten it first, and let the exponent say by how much.
    surplus = max(total.bit_length() - _PRECISE, 0)
    return math.ldexp((total >> surplus) / math.exp2(part), surplus - whole - _FRACTION)


def pack(total: int) -> tuple[bytes, int]:
    """(mantissa, exponent), total = mantissa·2^exponent: odd, two's complement, little-endian, as short as can be.

    0 is (b"", 0). The zero bits that are left out are the years from 1970 to the first fact.
    """
    if not total:
        return b"", 0
    exponent = (total & -total).bit_length() - 1
    mantissa = total >> exponent
    return mantissa.to_bytes(mantissa.bit_length() // 8 + 1, "little", signed=True), exponent


def unpack(mantissa: bytes, exponent: int) -> int:
    """The sum that `pack` packed."""
    return int.from_bytes(mantissa, "little", signed=True) << exponent


def rate(value: float, age: int, half_life: int) -> float:
    """Facts per day of an account as old as `age` > 0: ρ = A·ln 2 / (h·(1 − 2^(−age/h))); times in microseconds.

    The steady rate that would have made the sum: over the age T it collects ρ·∫₀ᵀ 2^(−s/h) ds. Without the divisor
    a young account would look idle.
    """
    if age <= 0:
        raise ValueError(f"An account of the age {age} µs has no rate; give the time since its oldest fact, above 0.")
    _check(half_life)
    whole_past = half_life / DAY / _LN2  # what a rate of one a day collects in unlimited time
    return value / (whole_past * -math.expm1(-_LN2 * age / half_life))


def trend(short: float, long: float, floor: float) -> float:
    """The short rate against the long one, per day: (short + floor) / (long + floor); 1 is "as usual".

    `floor` > 0 is added to both, so that after long silence it comes back to 1 and noise near 0 says nothing.
    """
    return (short + floor) / (long + floor)


def _split(at: Instant, half_life: int) -> tuple[int, float]:
    """at/half_life as its floor, exact, and the rest, in [0, 1]."""
    _check(half_life)
    whole = at // half_life
    # The quotient is rounded at its 53rd bit: as if `at` were off by 0.2 µs, less than an instant can say.
    return whole, at / half_life - whole


def _check(half_life: int) -> None:
    if half_life < SHORTEST:
        days = half_life / DAY
        raise ValueError(f"A half-life of {days:g} days is too short for an exact sum; give {SHORTEST // DAY} or more.")
