"""The recurrent skeletons, one file each."""

from . import gru, lstm, orthogonal, rnn
from .base import Base, bases

__all__ = ["Base", "bases", "gru", "lstm", "orthogonal", "rnn"]
