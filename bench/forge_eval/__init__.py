"""The labelled evaluation of the Candle Forge: seeded markets with known truth through the real kernels."""
