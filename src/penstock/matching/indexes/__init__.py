"""Indexes of the vectors of one partition: sparse ones, and dense ones (extra `semantic`)."""
