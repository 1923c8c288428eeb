"""From shards to batches: order, augmentation, collation."""
