"""Surrogates: what they are, how they are frozen and loaded, and our own LSTM."""
