"""What a market is, as data: specifications, presets, recorded quotes. Nothing here steps in time."""
