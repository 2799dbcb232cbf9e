"""A GPU host without a GPU: driver library, nvidia-smi, device nodes, containers that use them."""
