"""Triton kernels: the only modules that import Triton. One program works on one lane, so that no lane sees another.

Pointers to what a lane has are advanced by ``lane · size`` in 64 bits: a pack's gates may hold more than 2^31 numbers.
"""
