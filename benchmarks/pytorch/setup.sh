#!/bin/sh
# Installs PyTorch for the CPU, and what mdeq.py needs beside it, into an environment of its own:
#
#     sh benchmarks/pytorch/setup.sh [FOLDER]
#     equipoise bench --pytorch FOLDER/bin/python
#
# On Linux PyPI's wheel carries CUDA too; with access to PyTorch's own index, set
# PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu for a smaller one.
set -eu
folder=${1:-benchmarks/pytorch/env}
python3 -m venv "$folder"
"$folder/bin/pip" install --quiet torch numpy safetensors
"$folder/bin/python" -c 'import torch; print("torch", torch.__version__, "in", "'"$folder"'")'
