#!/usr/bin/env bash
# Run the tests as on other machines, and print a table: one and two threads, torch without vector instructions, the
# BLAS kernels of a processor of 2008, and in parallel with a second copy of the tests. For use by hand, before a
# release: it takes six times as long as `make test`. Each setting affects one command. Logs: build/other-machines.
#
#   tools/other_machines.sh [TARGET]     another target of the Makefile, for example test-numeric
set -uo pipefail
cd "$(dirname "$0")/.."
target=${1:-test}
logs=build/other-machines
mkdir -p "$logs"
rows="" failed=0

# Add the last line of a log to the table, for example "1180 passed, 54 skipped in 812.20s".
row() {
  local result
  result=$(grep -oE '([0-9]+ [a-z]+, )*[0-9]+ [a-z]+ in [0-9.]+s' "$2" | tail -1)
  [[ $3 == 0 ]] || failed=1
  rows+=$(printf '| %-30s | %-6s | %s |' "$1" "$([[ $3 == 0 ]] && echo green || echo FAILED)" "${result:-see $2}")$'\n'
}

# Run the tests once; everything behind the name are settings of the environment.
run() {
  local log="$logs/$1.log" status
  echo "== $1" >&2
  env "${@:2}" make "$target" >"$log" 2>&1
  status=$?
  row "$1" "$log" "$status"
}

run one-thread OMP_NUM_THREADS=1
run two-threads OMP_NUM_THREADS=2
run torch-without-vectors ATEN_CPU_CAPABILITY=default
run blas-of-nehalem OPENBLAS_CORETYPE=Nehalem

echo "== two copies" >&2
make "$target" >"$logs/second-copy.log" 2>&1 &
second=$!
run first-of-two-copies
wait "$second"
row second-of-two-copies "$logs/second-copy.log" "$?"

printf '| %-30s | result | tests |\n|%s|--------|-------|\n%s' setting "$(printf -- '-%.0s' {1..32})" "$rows"
exit "$failed"
