"""Experiments: who gets which arm, and what the outcomes say at any time. Pure policy."""
