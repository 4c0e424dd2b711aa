"""A checkpoint for other programs: ONNX for whatever runs it, safetensors for torch. One file each."""
