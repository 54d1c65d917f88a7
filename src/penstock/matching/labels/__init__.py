"""Whether the answer the cache proposed is the same as a fresh one: labellers, and a chain of them."""
