"""The fault matrix: each thing that can go wrong upstream or with the client, and what must come of it.

A fault is crossed with the place of its target in the route (the only one, the first of three, the last of three); it
belongs to a kind of answer (JSON or stream) and to a moment. What is asserted of each cell is in `judging`.
"""
