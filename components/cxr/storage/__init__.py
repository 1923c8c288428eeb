"""Files under a local root or in a bucket, and the tables among them."""
