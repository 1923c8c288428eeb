"""A film's file turned into pixels, the same for preprocess and serve."""
