"""Says to a person what was read of a recording, what was dropped and changed, and what may mislead."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class VenueSummary:
    """One venue of a recording; shares are of the time inside segments."""

    name: str
    rows: int
    live_rows: int
    live_share: float
    best_ask_share: float  # at the best ask, ties included
    median_spread_bps: float  # over quotes of both sides that are not hidden; NaN where there are none
    seconds_per_quote: float  # time live / quotes that are no repeats

    def spread_text(self) -> str:
        """The spread for a person."""
        if math.isnan(self.median_spread_bps):
            return "never both sides at once"
        return f"median spread {self.median_spread_bps:.2f} bps"


@dataclass(frozen=True)
class CleaningReport:
    """What the loader read, dropped and changed.

    Every row read is in one of `unknown_venue, not_requested, out_of_session, duplicates, of_dropped_venues,
    rows_kept`; every row kept in one of `rows_live, no_price, self_crossed, absurd_spread, no_size, far, halted,
    far_lone`. Shares are of the time inside segments.
    """

    file: str
    rows_read: int
    unknown_venue: int  # the venue's name is empty
    not_requested: int  # of venues left out by `venues`
    out_of_session: int
    duplicates: int  # a later row of the same venue has the same stamp
    of_dropped_venues: int
    rows_kept: int
    rows_live: int
    no_price: int  # a price is missing, zero, negative, infinite or a vendor's filler
    self_crossed: int  # the venue's bid is above its own ask
    absurd_spread: int  # wider than max_spread_bps
    no_size: int  # one size is missing and not filled, or both are zero, negative or infinite
    far: int  # a bad print: see `sor_sb3.market.outliers`
    halted: int  # the file's `status` says so
    far_lone: int  # one side alone, far from the market of those who quote both
    only_asks: int  # live: the venue has no bid
    only_bids: int  # live: the venue has no ask
    still: bool  # nothing changes for most of the time: gaps are counted between rows, not between changes
    repeats: int  # rows kept that say what the venue's row before said, such as those of snapshots
    self_locked: int  # live: the venue's bid equals its own ask
    sizes_missing: int  # bid and ask sizes missing in rows with good prices
    sizes_filled: int  # of them, those set to assumed_depth_shares
    resets: int  # rows added: a quote from before a gap or a closed session is ended at the next start
    out_of_order: int  # rows read whose stamp is before that of the row above; they are sorted
    max_spread_bps: float
    max_gap_s: float
    sessions: int  # sessions with data; 1 if no session hours were given
    gaps: int  # silences longer than max_gap_s inside a session
    longest_silence_s: float  # between live rows of any venue, inside a session
    segments: int
    segment_hours: float
    crossed_moments: int  # runs of time with the best bid above the best ask
    locked_moments: int  # runs of time with the best bid equal to the best ask
    crossed_share: float  # as recorded
    locked_share: float
    crossed_share_left: float  # after stale quotes were hidden
    culprits: tuple[tuple[str, float], ...]  # (name, share of time in which its quote is the older of a crossed pair)
    hidden: tuple[int, ...]  # of each venue, quotes that were hidden as the older of a crossed pair
    no_live_share: float  # without a best bid or a best ask
    dropped_venues: tuple[tuple[str, str], ...]  # (name, why)
    venues: tuple[VenueSummary, ...]
    levels: int = 1  # of a side
    levels_missing: int = 0  # of live rows, behind the touch: without price or size, or no worse than the one before
    worst_far: str = ""  # the worst of the bad prints: venue, time, and its mid beside the expected one
    largest_jump: str = ""  # the same of the largest jump that was kept, if it is above `JUMP_TO_TELL`
    trades_read: int = 0
    trades_kept: int = 0
    trades_with_side: int = 0  # of them, those whose file says who the aggressor was

    @property
    def not_quoting(self) -> int:
        """Kept rows in which the venue is not quoting."""
        return self.rows_kept - self.rows_live

    def lines(self) -> list[str]:
        """Says to a person what was kept, dropped and changed, and why; counts of zero are left out."""
        lines = [
            f"{self.file}: {self.rows_read:,} rows read, {self.rows_kept:,} kept: {self.rows_live:,} usable "
            f"quotes and {self.not_quoting:,} rows in which a venue is not quoting.",
            *self._level_lines(),
            *self._dropped_lines(),
            *self._not_quoting_lines(),
            *self._market_lines(),
        ]
        lines += [
            f"Venue {venue.name}: {venue.live_rows:,} usable quotes, quoting {venue.live_share:.1%} of the time, "
            f"at the best ask {venue.best_ask_share:.1%}, {venue.spread_text()}; a quote lasts "
            f"{venue.seconds_per_quote:.2f} s on average."
            for venue in self.venues
        ]
        if self.trades_read:
            kept = f"{self.trades_kept:,} kept (of these venues and session hours, with a price and a size above 0)"
            said = f"{self.trades_with_side:,} say their side, the quote rule that of the others"
            said = said if self.trades_with_side else "the quote rule says their side"
            said = "all say their side" if self.trades_with_side == self.trades_kept else said
            lines.append(f"Trades: {self.trades_read:,} read, {kept}; {said}.")
        return lines + self.warnings()

    def warnings(self) -> list[str]:
        """Says what in the data may mislead whoever replays it."""
        said = []
        if len(self.venues) == 1:
            only = f"{self.venues[0].name} is the only venue"
            said.append(f"{only}, so there is nothing to route between and the consolidated market is that venue.")
        tightest = min((v.median_spread_bps for v in self.venues if v.median_spread_bps >= 0.0), default=0.0)
        fastest = min(venue.seconds_per_quote for venue in self.venues)
        for venue in self.venues:
            if venue.median_spread_bps > 20 * max(tightest, 0.5):
                remedy = "its quotes look like stubs; leave it out (--venues), or --market-set max_spread_bps=..."
                spread = f"the median spread of {venue.name}, {venue.median_spread_bps:.0f} bps"
                said.append(f"{spread}, is far from the tightest venue's {tightest:.2f} bps: {remedy}.")
            if venue.seconds_per_quote > 100 * fastest:
                lasts = f"a quote of {venue.name} lasts {venue.seconds_per_quote:.0f} s on average"
                remedy = "its quotes are often stale; leave the venue out (--venues)"
                said.append(f"{lasts}, of the fastest venue {fastest:.2f} s: {remedy}.")
        if self.largest_jump:
            jump = f"the largest jump of a venue from one quote to the next is {self.largest_jump}"
            said.append(f"{jump}; it stays, as later quotes or other venues confirm it.")
        if self.still:
            frozen = f"for most of the time no quote changes for longer than max_gap_s = {self.max_gap_s:g} s, though"
            said.append(
                f"{frozen} rows repeat them: the market is quiet or the recording was frozen; gaps are of rows."
            )
        if self.crossed_share_left > 0.02:
            why = "some venues' quotes are stale or the recording is thinned, so gains from routing come out too large"
            crossed = f"the consolidated market is crossed {self.crossed_share_left:.1%} of the time"
            remedy = f"{self.culprits_text()}; --market-set crossed=hide_older hides such quotes until they change"
            said.append(f"{crossed}, which real markets are not: {why}; {remedy}.")
        return [f"Warning: {text}" for text in said]

    def culprits_text(self) -> str:
        """Whose quotes are to blame for crossed moments, the worst first: in each, whoever's quote is the older."""
        listed = ", ".join(f"{name} {share:.1%}" for name, share in self.culprits[:5])
        more = f" and {len(self.culprits) - 5} more" if len(self.culprits) > 5 else ""
        return f"the older quote of the crossed pair is that of {listed} of the time{more}"

    def _level_lines(self) -> list[str]:
        if self.levels == 1:
            return []
        missing = f"; {self.levels_missing:,} are empty or no worse than the one before, where a book ends"
        return [f"Levels: {self.levels} a side{missing if self.levels_missing else ''}."]

    def _dropped_lines(self) -> list[str]:
        counted = [
            (self.unknown_venue, "dropped: no venue is named"),
            (self.not_requested, "dropped: of venues that were not asked for"),
            (self.out_of_session, "dropped: outside the session hours"),
            (self.duplicates, "dropped: a later row of the same venue has the same time stamp and replaces it"),
            (self.out_of_order, "are earlier than the row above them; the rows were sorted by time"),
        ]
        lines = [f"Rows {why}: {count:,}." for count, why in counted if count]
        return lines + [f"Venue {name} dropped: {why}." for name, why in self.dropped_venues]

    def _not_quoting_lines(self) -> list[str]:
        bad_print = "the mid is far from the venue's quotes before and after it and from the other venues (the worst: "
        no_quotes = [
            (self.no_price, "a price is missing, zero or negative"),
            (self.self_crossed, "the venue's bid is above its own ask"),
            (self.absurd_spread, f"the spread is wider than {self.max_spread_bps:g} bps"),
            (self.no_size, "both sizes are zero or negative, or one is missing"),
            (self.far, f"{bad_print}{self.worst_far})"),
            (self.halted, "the venue is halted, as its status says"),
            (self.far_lone, "there is one side alone, and that is far from the mid of who quotes both, or nobody does"),
        ]
        unfilled = 0 if self.sizes_filled else self.sizes_missing
        counted = [
            *((count, f"Rows taken as 'not quoting', as {why}: {count:,}.") for count, why in no_quotes),
            (self.self_locked, f"Rows used although the bid equals the venue's own ask: {self.self_locked:,}."),
            (self.sizes_filled, f"Missing sizes set to the assumed depth: {self.sizes_filled:,}."),
            (unfilled, f"Missing sizes: {unfilled:,}; --assumed-depth SHARES would fill them."),
            (self.only_asks, f"Quotes with an ask and no bid, which sell to a buyer: {self.only_asks:,}."),
            (self.only_bids, f"Quotes with a bid and no ask, which buy from a seller: {self.only_bids:,}."),
            (self.repeats, f"Rows that repeat their venue's row before them, and say only: alive: {self.repeats:,}."),
            (self.resets, f"Quotes ended because they were older than a gap or a closed session: {self.resets:,}."),
        ]
        return [line for count, line in counted if count]

    def _market_lines(self) -> list[str]:
        lines = [
            f"Segments of continuous trading: {self.segments}, {self.segment_hours:.2f} hours; sessions: "
            f"{self.sessions}; gaps longer than {self.max_gap_s:g} s: {self.gaps}; longest time without a change "
            f"inside a session: {self.longest_silence_s:.1f} s.",
            f"Best bid above best ask (crossed): {self.crossed_share:.1%} of the time, {self.crossed_moments:,} "
            f"moments; equal (locked): {self.locked_share:.1%}, {self.locked_moments:,} moments; the mid is still "
            "their average.",
        ]
        if self.culprits:
            lines.append(f"While the market is crossed, {self.culprits_text()}.")
        if any(self.hidden):
            pairs = [(n, venue.name) for n, venue in zip(self.hidden, self.venues, strict=True) if n]
            of_each = ", ".join(f"{name} {n:,}" for n, name in sorted(pairs, reverse=True))
            left = f"crossed then: {self.crossed_share_left:.1%} of the time"
            lines.append(f"Stale quotes hidden until they changed: {sum(self.hidden):,} ({of_each}); {left}.")
        if self.no_live_share > 0:
            carried = "the last mid is carried there"
            lines.append(f"There is no best bid or no best ask {self.no_live_share:.1%} of the time; {carried}.")
        return lines
