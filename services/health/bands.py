"""The band that follows the score: margins, dwell times, falls, and the bound that caps put on it. Milli-points."""

from collections.abc import Iterator

from schemas.health import Band, Colour
from services.core.instants import Instant
from services.health.model import Standing
from services.health.policy import Bands

NA: Band = "na"
ORDER: tuple[Band, ...] = ("green", "yellow", "red")
PEAKS_KEPT = 50
NEITHER = None, None


def colour(score: int, bands: Bands) -> Colour:
    """What a score says by itself."""
    return "green" if score >= bands.green else "yellow" if score >= bands.yellow else "red"


def step(before: Standing | None, at: Instant, score: int, limit: int, bands: Bands, *, is_na: bool) -> Standing:
    """The standing at `at`, where the score is `score` and the lowest cap `limit`.

    Nothing that matters may have changed between the standing before and `at`: whoever calls steps at every crossing.
    """
    falls, rises = bands.falls, bands.rises
    was_under, was_over = (before.under, before.over) if before else (NEITHER, NEITHER)
    under = _since(was_under[0], at, score < falls[0]), _since(was_under[1], at, score < falls[1])
    over = _since(was_over[0], at, score >= rises[0]), _since(was_over[1], at, score >= rises[1])
    peaks = _peaks(before, at, score, bands)
    band, since = _band(before, at, score, bands, is_na=is_na, under=under, over=over, peak=peaks[0][1])
    if band != NA and limit < bands.green:
        band = max(band, colour(limit, bands), key=ORDER.index)
    if before is not None and band == before.band:
        since = before.since
    return Standing(band, since, under, over, peaks)


def _since(before: Instant | None, at: Instant, holds: bool) -> Instant | None:
    if not holds:
        return None
    return at if before is None else before


def _peaks(before: Standing | None, at: Instant, score: int, bands: Bands) -> tuple[tuple[Instant, int], ...]:
    """The scores of the window that no later one reaches, the highest first."""
    since = at - bands.window
    kept = [peak for peak in (before.peaks if before else ()) if peak[0] >= since and peak[1] > score]
    return (*kept[: PEAKS_KEPT - 1], (at, score))


def _band(
    before: Standing | None,
    at: Instant,
    score: int,
    bands: Bands,
    *,
    is_na: bool,
    under: tuple[Instant | None, ...],
    over: tuple[Instant | None, ...],
    peak: int,
) -> tuple[Band, Instant]:
    if is_na:
        return NA, at
    if before is None or before.band == NA:
        return colour(score, bands), at
    now = ORDER.index(before.band)
    has_fallen = peak - score >= bands.fall
    for place in (1, 0):  # red first: who fell through both thresholds does not stop in between
        since = under[place]
        if now <= place and since is not None and (has_fallen or at - since >= bands.down):
            return ORDER[place + 1], at
    for place in (0, 1):
        since = over[place]
        if now > place and since is not None and at - since >= bands.up:
            return ORDER[place], at
    return before.band, before.since


def dwells(standing: Standing, bands: Bands) -> Iterator[Instant]:
    """When a dwell that runs will have lasted long enough to change the band."""
    if standing.band == NA:
        return
    now = ORDER.index(standing.band)
    for place in (0, 1):
        under, over = standing.under[place], standing.over[place]
        if under is not None and now <= place:
            yield under + bands.down
        if over is not None and now > place:
            yield over + bands.up


def began(before: Standing, after: Standing) -> Instant | None:
    """When the dwell began that took the band down or up; None where none did."""
    if NA in {before.band, after.band} or before.band == after.band:
        return None
    was, now = ORDER.index(before.band), ORDER.index(after.band)
    return before.under[now - 1] if now > was else before.over[now]
