"""Surrogates as ONNX files: read by :mod:`.file`, run with torch by :mod:`.network`, offered to specs by :mod:`.loader`."""
