"""Step 1: DICOMs and reports in, Parquet shards and a manifest out."""
