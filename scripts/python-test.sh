#!/usr/bin/env bash
# The wheel in dist/, installed in a fresh environment, and python/tests and mypy there: `make python-test`.
#
#   TORCH_FROM=/path/to/venv   take torch and all other packages of that environment (of the same Python) as hard links,
#                              instead of 3 GB from PyPI
#   MLFLOW=1                   with the real MLflow (650 MB from PyPI), too
set -euo pipefail
cd "$(dirname "$0")/.."

environment=target/python-test
python=$environment/bin/python
rm -rf $environment
"${TORCH_FROM:+$TORCH_FROM/bin/}python3" -m venv $environment
if [ -n "${TORCH_FROM:-}" ]; then
  packages() { "$1" -c 'import sysconfig; print(sysconfig.get_path("platlib"))'; }
  rm -rf "$(packages $python)"
  cp -al "$(packages "$TORCH_FROM/bin/python")" "$(packages $python)"
fi
$python -m pip install -q --disable-pip-version-check "$(echo dist/camtrast-*.whl)[all]" pytest nbclient ipykernel pillow tensorboard mypy ${MLFLOW:+mlflow}
$python -m mypy --config-file python/pyproject.toml --cache-dir target/mypy --python-executable $python python/camtrast
$python -m pytest python/tests "$@"
