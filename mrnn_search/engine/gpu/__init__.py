"""The engine on CUDA devices, in Triton. Importing this package does not import Triton; what needs it imports it when called.

    rules        drive rules of K lanes for all steps in one launch; `generate` writes their kernels, from any formula
    recurrence   lstm, gru, rnn and modReLU recurrences for K lanes in lockstep: `step` and `persistent` are its two executions
    products     the input's products, of each lane's own weights
    path         a layer (`run_triton`, one lane) and a pack (`run_triton_lanes`) on them
    kernels      the Triton code

Shapes: K lanes, T time, B batch, I input, H hidden, G gate blocks, N channels.
"""
