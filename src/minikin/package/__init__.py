"""Writing a student as a kin folder: ONNX, safetensors, tokenizer, configuration and manifest."""
