"""Cascades: a cheap model answers first, and a large one what the cheap answer would lose. Pure.

`verifier` estimates quality, `certificate` says from which quality on cheap answers may be served, `policy` decides,
and `learner` keeps all three fresh from random audits.
"""
