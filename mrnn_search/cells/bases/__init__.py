"""The recurrent skeletons, one file each."""

from . import gru, indrnn, linear, lstm, mgu, orthogonal, orthogonal_lstm, rnn
from .base import Base, bases

__all__ = ["Base", "bases", "gru", "indrnn", "linear", "lstm", "mgu", "orthogonal", "orthogonal_lstm", "rnn"]
