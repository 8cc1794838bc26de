#!/usr/bin/env bash
# Eight minutes on one GPU: what this program has predicted of GPUs, measured; then predicted beside measured.
#
#   bash benchmarks/gpu_day.sh                     one GPU, at most eight minutes, no downloads, no base
#   bash benchmarks/gpu_day.sh --rehearse          the same on a CPU with the tiny network, into a temporary file
#   bash benchmarks/gpu_day.sh --only machine attention lora   some parts, for who has less time; others of the day stay
#   bash benchmarks/gpu_day.sh --out FILE          the result, and the comparison, in a file of one's own
#   PYTHON=python3.12 bash benchmarks/gpu_day.sh   another interpreter
#
# The most telling parts come first, and each writes its result when it is done, so that a run that is cut short has
# told what it could: benchmarks/results/gpu_day_NAME.json.
set -u
cd "$(dirname "$0")/.." || exit 2
python=${PYTHON:-.venv/bin/python}
export PYTHONPATH="$PWD/src${PYTHONPATH:+:$PYTHONPATH}"
file=() # where the result goes, when it is said here; gpu_day.py has a name for it else
rehearse=0
seconds=460
before=
for word in "$@"; do
    if [ "$before" = --out ]; then file=("$word"); fi
    case $word in
    --out=*) file=("${word#--out=}") ;;
    --rehearse) rehearse=1 ;;
    esac
    before=$word
done
if [ "$rehearse" = 1 ]; then # all parts shall be seen, however busy the machine is
    seconds=3600
    file=("${file[@]-${TMPDIR:-/tmp}/pi05_gpu_day_rehearsal.json}")
fi
timeout --signal=INT --kill-after=15 "$seconds" "$python" benchmarks/gpu_day.py "$@" ${file[@]+--out "${file[@]}"}
code=$?
if [ "$code" = 2 ]; then exit 2; fi
"$python" benchmarks/gpu_compare.py ${file[@]+"${file[@]}"} || code=$?
exit "$code"
