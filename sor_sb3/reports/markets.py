"""Console tables of market specifications."""

from __future__ import annotations

from rich.table import Table

from sor_sb3.market.spec import MarketSpec


def venues_table(market: MarketSpec) -> Table:
    """A row a venue, a column a field of its specification."""
    order = market.order
    table = Table(
        title=f"{market.name}: {market.description}",
        caption=f"parent order: {order.quantity_shares:g} shares in {order.horizon_steps} steps of {order.step_s:g} s; "
        f"naive reference {market.reference_router}, oracle {market.oracle}",
        title_justify="left",
        caption_justify="left",
    )
    fields = list(type(market.venues[0]).model_fields)
    for field in fields:
        table.add_column(field, justify="left" if field == "name" else "right")
    for venue in market.venues:
        values = [getattr(venue, field) for field in fields]
        table.add_row(*(v if isinstance(v, str) else f"{v:g}" for v in values))
    return table
