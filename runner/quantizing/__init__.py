"""A full-precision base model quantized with GPTQ inside a run: calibration, rounding, cache."""
