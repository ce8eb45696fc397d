# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# Measures fuzz targets: executions, and which lines of their parsers run. Needs common.sh and packages.sh.

# parser_of NAME: its files, one a line
parser_of() {
    local patterns
    patterns=$(awk -v "name=$1:" '/^[^ ]/ { own = $1 == name; $1 = "" } own' "$root/tests/fuzz/parsers.txt")
    # shellcheck disable=SC2086 # patterns
    (cd "$root" && printf '%s\n' $patterns)
}

# lines_of PROGRAM PROFILE FILE...: "SHARE of ALL"; and for each file, on standard error
lines_of() {
    local program=$1 profile=$2
    shift 2
    llvm-cov-19 export -summary-only -instr-profile="$profile" "$program" "$@" 2>/dev/null | python3 -c '
import json, sys
files = json.load(sys.stdin)["data"][0]["files"]
for file in files:
    lines = file["summary"]["lines"]
    print("  %-50s %4d of %4d" % (file["filename"][-50:], lines["covered"], lines["count"]), file=sys.stderr)
all, covered = (sum(file["summary"]["lines"][what] for file in files) for what in ("count", "covered"))
print("%.1f %% of %d" % (100 * covered / all, all))'
}

# fuzz_row SECONDS NAME: runs it for so long, or ten million times, and prints a row of the table
fuzz_row() {
    local seconds=$1 name=$2 dir=$root/build/fuzz-coverage found files covered=unknown findings
    found=$dir/found/$name
    mkdir -p "$found"
    cd "$dir/found" || exit
    files=$(parser_of "$name" | sed "s,^,$root/,")
    [ -n "$files" ] || die "tests/fuzz/parsers.txt has no line for '$name'" "name the files of its parser there"
    LLVM_PROFILE_FILE=$found.profraw "$dir/tests/fuzz/fuzz_$name" "-max_total_time=$seconds" -runs=10000000 \
        -print_final_stats=1 "$found" "$root/tests/fuzz/corpus/$name" >"$found.log" 2>&1 ||
        say "fuzz_$name found something: $found.log"
    findings=$(find . -maxdepth 1 \( -name 'crash-*' -o -name 'leak-*' -o -name 'timeout-*' -o -name 'oom-*' \) \
        -newer "$found.profraw.begin" | wc -l)
    # One that ends by a finding leaves no counts
    if llvm-profdata-19 merge -sparse "$found.profraw" -o "$found.profdata" 2>/dev/null && [ "$findings" = 0 ]; then
        # shellcheck disable=SC2086 # one a line
        covered=$(lines_of "$dir/tests/fuzz/fuzz_$name" "$found.profdata" $files)
    fi
    printf "| \`%s\` | %s | %s | %s | \`tools/dev fuzz-table %s %s\` |\n" "$name" \
        "$(sed -n 's/^stat::number_of_executed_units: *//p' "$found.log")" "$covered" "$findings" "$seconds" "$name"
}

# fuzz_table SECONDS [NAME...]
fuzz_table() {
    local seconds=$1 dir=$root/build/fuzz-coverage name names=("${@:2}")
    # shellcheck disable=SC2207 # names without blanks
    [ ${#names[@]} != 0 ] || names=($(sed -n 's/^\([a-z_]*\):.*/\1/p' "$root/tests/fuzz/parsers.txt"))
    # shellcheck disable=SC2154 # tools/dev and packages.sh have them
    need "${build_packages[@]}" "${clang_packages[@]}" llvm-19 python3
    # shellcheck disable=SC2154
    quietly configure cmake -S "$root" -B "$dir" -G Ninja -DINOX_FUZZ=ON -DINOX_FUZZ_COVERAGE=ON \
        -DCMAKE_C_COMPILER=clang-19 -DCMAKE_CXX_COMPILER=clang++-19 -DCMAKE_BUILD_TYPE=RelWithDebInfo \
        "-DCMAKE_CXX_FLAGS_RELWITHDEBINFO=-O1 -g1 -DNDEBUG" "${launcher[@]}" >&2
    cmake --build "$dir" --target "${names[@]/#/fuzz_}" >&2
    mkdir -p "$dir/found"
    echo '| target | executions | lines of its parser covered | open findings | measured with |'
    echo '|---|---|---|---|---|'
    for name in "${names[@]}"; do
        touch "$dir/found/$name.profraw.begin"
        fuzz_row "$seconds" "$name"
    done
}
