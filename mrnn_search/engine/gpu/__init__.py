"""The engine on CUDA devices, in Triton. Importing this package does not import Triton; what needs it imports it when called.

    scan         first-order linear recurrences and running maxima over time, for K lanes
    recurrence   lstm, gru, rnn and modReLU recurrences for K lanes in lockstep: `step` and `persistent` are its two executions
    path         a layer (`run_triton`, one lane) and a pack (`lanes_triton`) on them
    kernels      the Triton code

Shapes: K lanes, T time, B batch, I input, H hidden, G gate blocks, N channels.
"""
