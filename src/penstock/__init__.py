"""Penstock: the gate between an application and its language models."""
