"""Tables and figures. Every number in them was computed elsewhere."""
