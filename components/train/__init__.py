"""Train: shards in, a bundle out."""
