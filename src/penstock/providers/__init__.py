"""Implementations of penstock.abc.Provider and the transports they use."""
