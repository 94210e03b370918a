#!/usr/bin/env bash
# Builds a virtual environment with the locked core, torch for CPU and transformers, in which local
# models (a reward model as the judge's first stage, classifiers) run:  install.sh FOLDER
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
root=$(cd "$here/../.." && pwd)
stamp=$folder/.installed
pins=$(cat "$here/install.sh" "$here/requirements.txt" "$root/requirements.lock" | cksum)

if [ -x "$folder/bin/python" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$pins" ]; then
  exit 0
fi

echo "Building the environment for local models in $folder (about 1.5 GB, some minutes)"
rm -f "$stamp"
"$python" -m venv "$folder"
install=("$folder/bin/python" -m pip install --quiet --disable-pip-version-check)
"${install[@]}" --require-hashes --requirement "$root/requirements.lock"
# With the lock as constraint: what the core was tested with stays as it is. Hashes are pip's own
# syntax for files, so they are cut off.
constraints=$folder/constraints.txt
sed -E 's/ *\\$//; /^ *--hash/d' "$root/requirements.lock" >"$constraints"
"${install[@]}" --no-cache-dir --constraint "$constraints" --requirement "$here/requirements.txt"
"${install[@]}" --no-deps --editable "$root"
"$folder/bin/python" -c 'import torch, transformers' >/dev/null
echo "$pins" >"$stamp"
