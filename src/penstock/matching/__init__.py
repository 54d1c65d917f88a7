"""Whether an answer to one question answers another: facts, vetoes, a calibrated model and its certificate.

Pure policy: no input or output.
"""
