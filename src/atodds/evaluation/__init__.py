"""From models, images and attacks to one table of verdicts, kept as immutable shards."""
