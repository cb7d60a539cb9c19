"""Runs of the package neuralhydrology: its files by :mod:`.config` and :mod:`.scaler`, its networks by :mod:`.networks`."""
