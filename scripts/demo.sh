#!/usr/bin/env bash
# The main job on embedded images, from nothing but Python: does pretraining help?
set -euo pipefail
source "$(dirname "$0")/venv.sh"
exec ptft demo "$@"
