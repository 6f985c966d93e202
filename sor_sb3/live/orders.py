"""What the state of an order says that a desk sends: children, cancels and orders to rest."""

from __future__ import annotations

import numpy as np

from sor_sb3.live.events import Cancel, Child, Order, Post
from sor_sb3.live.feeds import Feeds
from sor_sb3.simulator.state import RESTS

Fields = dict[str, np.ndarray]


def children_of(of: Fields, feeds: Feeds) -> list[Order]:
    """The children that an action has just sent."""
    found = list[Order]()
    for k in np.flatnonzero(of["sent_shares"][: len(feeds.names)] > 0.0).tolist():
        wait_ms = of["child_arrives_ms"][k] - of["elapsed_ms"][0] - of["latency_ms"][k]
        limit, shares = feeds.price(of["child_limit_bps"][k]), float(of["sent_shares"][k])
        found.append(Child(feeds.names[k], shares, limit, max(round(float(wait_ms), 9), 0.0)))
    return found


def changes_of(of: Fields, feeds: Feeds, before: Fields) -> list[Order]:
    """What an action has just changed of orders that rest: cancels, then orders to post."""
    cancels, posts = list[Order](), list[Order]()
    for r in range(len(feeds.names) * RESTS):
        name, number = feeds.names[r // RESTS], int(of["rest_number"][r])
        if of["rest_cancel_shares"][r] != before["rest_cancel_shares"][r]:
            cancels.append(Cancel(name, number, float(of["rest_cancel_shares"][r])))
        if of["rest_shares"][r] > 0.0 and before["rest_shares"][r] <= 0.0:
            is_lit = not feeds.dark[r // RESTS]
            price = feeds.price(of["rest_price_bps"][r]) if is_lit else None
            posts.append(Post(name, number, float(of["rest_shares"][r]), price))
    return cancels + posts
