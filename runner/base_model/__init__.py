"""The base model: where it is, how it is loaded, how it is quantized."""
