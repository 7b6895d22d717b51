#!/usr/bin/env bash
# Runs the stages named, or all of them; says what it does, and what failed at the end.
set -uo pipefail
cd "$(dirname "$0")/.."
bin=.venv/bin
seeds=tests/simulation/test_seeds.py
stages=(format lint layers types unit explored fuzz rules simulation stack browser docker)
[ $# -gt 0 ] && stages=("$@")

run_stage() {
    case $1 in
        format) $bin/ruff format --check . ;;
        lint) $bin/ruff check . ;;
        layers) $bin/lint-imports ;;
        types) $bin/mypy ;;
        # The inner loop: everything that needs neither much time nor many seeds nor a real program.
        unit) $bin/python -m pytest -n 2 --dist worksteal -m "not exhaustive" tests/unit tests/simulation --ignore "$seeds" ;;
        explored) $bin/python -m pytest -m exhaustive tests/unit ;;
        fuzz) $bin/python -m pytest -rP tests/fuzz ;;
        simulation) $bin/python -m pytest "$seeds" ;;
        rules) $bin/python -m pytest tests/rules ;;
        stack) scripts/own-network.sh $bin/python -m pytest -rP tests/stack ;;
        browser) $bin/python -m pytest tests/browser ;;
        docker) scripts/own-network.sh $bin/python -m pytest -n 2 --dist loadfile tests/docker ;;
        *) echo "there is no stage '$1'"; return 2 ;;
    esac
}

failed=()
summary=""
for stage in "${stages[@]}"; do
    printf '\n===== %s\n' "$stage"
    began=$SECONDS
    run_stage "$stage"
    status=$?
    word=passed
    [ $status -eq 0 ] || { word=FAILED; failed+=("$stage"); }
    summary+=$(printf '%-12s %-7s %4d s' "$stage" "$word" $((SECONDS - began)))$'\n'
done
printf '\n===== summary\n%s' "$summary"
printf '%d passed, %d failed\n' $((${#stages[@]} - ${#failed[@]})) ${#failed[@]}
[ ${#failed[@]} -eq 0 ]
