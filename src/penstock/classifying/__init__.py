"""Putting texts into classes in stages: a rule, a small model, and the large one for what is left.

`penstock.Classifier` runs `stages`; each ends with a verdict: its word is taken, the text is dropped, or the next
stage is asked. What models answer is read and checked in `answers`.
"""
