"""Kernels: the recurrence of a frozen LSTM, compiled."""
