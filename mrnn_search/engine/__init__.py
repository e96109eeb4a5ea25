"""Runs and trains cells (layer 2; torch, no optuna, ray or pandas)."""
