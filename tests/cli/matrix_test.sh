# SPDX-License-Identifier: Apache-2.0
# `inox test`: what it refuses, its verdicts on small guests, its reports.
. "$(dirname "$0")/lib.sh"

guests=$(dirname "$inox")/tests/kvm/guests
export TMPDIR=$scratch
export INOX_CACHE=$scratch/nothing

# verdict CODE TEXT COMMAND...: ends with CODE and says TEXT on standard error
verdict() {
    local want=$1 text=$2
    shift 2
    run "$@"
    checks=$((checks + 1))
    [ "$code" = "$want" ] && grep -q -F -- "$text" <<<"$err" || fail "$* should end with $want and say '$text'"
}

accepted 'inox test --kernel bzImage -- uname -a' "$inox" test --help
refused 125 bad_option 'no kernel is given' 'a build directory' "$inox" test
refused 125 bad_option 'unknown option' 'did you mean' "$inox" test --kernle x
refused 125 bad_option 'no command follows' 'leave out' "$inox" test --kernel x --
refused 125 bad_option "'0' is not a number from 1 to 1000" 'such as' "$inox" test --kernel x --jobs 0
refused 125 bad_option 'a kernel that tests itself runs no command' 'leave out' "$inox" test --kernel x --kunit -- true
refused 125 bad_option "'soon'" '500ms' "$inox" test --kernel x --timeout soon
refused 125 output_unwritable '/nope/x.xml' 'a directory' "$inox" test --kernel x --junit /nope/x.xml
refused 125 kernel_missing "there is no kernel '99.9'" 'tools/dev kernel' "$inox" test --kernel 99.9
mkdir "$scratch/empty"
refused 125 kernel_missing 'holds no kernel' 'arch/x86/boot/bzImage' "$inox" test --kernel "$scratch/empty"
# Several faults are all told
run "$inox" test --kernel 99.8 --kernel 99.9
shows "'99.8'"
shows "'99.9'"

# A file says it all, and options win over it; what is wrong with it is told as for other commands
mkdir "$scratch/conf"
printf 'no kernel' >"$scratch/conf/k1"
cp "$scratch/conf/k1" "$scratch/conf/k2"
cat >"$scratch/conf/t.json" <<END
{"test": {"kernels": ["k1", "k2"], "cpus": [1, 2], "memory": ["64M", 128], "jobs": 2, "junit": "out.xml", "append": "x",
          "artifacts": "kept"},
 "root": {"path": "/"}, "command": {"arguments": ["true"]}, "inox": {"timeout": "7s"}}
END
run "$inox" test --config "$scratch/conf/t.json"
checks=$((checks + 1))
[ "$code" = 125 ] && [ "$(grep -c ': not run  *' <<<"$err")" -ge 8 ] && [ -s "$scratch/conf/out.xml" ] &&
    [ "$(find "$scratch/conf/kept" -mindepth 1 -maxdepth 1 | wc -l)" = 8 ] || fail 'a file with eight machines'
shows '0 of 8 machines are good'
shows "repeat: inox test --kernel $scratch/conf/k2 --cpus 2 --memory 128 --append x --timeout 7s"
shows "--config $scratch/conf/t.json -- true"
run "$inox" test --config "$scratch/conf/t.json" --kernel "$scratch/conf/k1" --cpus 4 --memory 256M --jobs 1 \
    --junit "$scratch/other.xml" -- false
checks=$((checks + 1))
[ "$code" = 125 ] && [ -s "$scratch/other.xml" ] || fail 'options win over the file'
shows "repeat: inox test --kernel $scratch/conf/k1 --cpus 4 --memory 256M --append x --timeout 7s"
shows "--config $scratch/conf/t.json -- false"
echo '{"test": {"kernels": ["absent", "k1"], "tap": true, "kunit": true, "junit": "no/x"},
    "command": {"arguments": ["true"]}}' >"$scratch/conf/t.json"
run "$inox" test --config "$scratch/conf/t.json"
shows "$scratch/conf/t.json#/test/kernels: there is no kernel '$scratch/conf/absent'"
shows "$scratch/conf/t.json#/test/kunit: a kernel that tests itself runs no command"
shows "$scratch/conf/t.json#/test/junit: cannot open '$scratch/conf/no/x'"
run "$inox" check "$scratch/conf/t.json"
shows "$scratch/conf/t.json#/test/kernels/0: there is no kernel '$scratch/conf/absent'"
shows "$scratch/conf/t.json#/test/junit: "
echo '{"test": {"kernels": ["k1"], "tap": true}}' >"$scratch/conf/t.json"
run "$inox" test --config "$scratch/conf/t.json"
checks=$((checks + 1))
[ "$code" = 125 ] && [ -z "$err" ] && [[ $out == 'TAP version 14'* ]] || fail 'a file can ask for TAP'
run "$inox" test --config "$scratch/conf/t.json" --tap off
checks=$((checks + 1))
[ "$code" = 125 ] && [ -z "$out" ] && [[ $err == *'repeat: '* ]] || fail 'and an option can turn it off'
refused 125 bad_option "--tap: 'maybe' is neither on nor off" 'turns it on' "$inox" test --kernel x --tap maybe
refused 125 bad_option '--config: standard input cannot be read twice' 'name one' "$inox" test --config -
refused 125 config_unreadable "$scratch/none.json" '' "$inox" test --config "$scratch/none.json"
checks=$((checks + 1))
[[ $err != *'no kernel is given'* ]] || fail 'what an unreadable file lacks is not known'
printf '{"boot-source": {"kernel_image_path": "k1"}, "test": {"jobs": 0}}' >"$scratch/conf/t.json"
refused 125 config_value '#/test/jobs' '' "$inox" test --config "$scratch/conf/t.json"
python3 - >"$scratch/conf/many.json" <<'END'
import json
print(json.dumps({"test": {"kernels": ["none"] * 200, "cpus": [1] * 200, "memory": ["512M"] * 200}}))
END
for command in 'test --config' check; do
    # shellcheck disable=SC2086 # two words
    run "$inox" $command "$scratch/conf/many.json"
    shows "many.json#/test/kernels: more than 10000 combinations of kernel, CPUs and memory [no_resource]"
done
# The file of a machine is one of a test, too
printf '{"boot-source": {"kernel_image_path": "k1"}, "machine-config": {"vcpu_count": 3}}' >"$scratch/conf/t.json"
verdict 125 "repeat: inox test --kernel $scratch/conf/k1 --config" "$inox" test --config "$scratch/conf/t.json"

# What the machine itself is refused for is not the kernel's fault
printf 'no kernel' >"$scratch/text"
verdict 125 'repeat: inox test --kernel' "$inox" test --kernel "$scratch/text"
verdict 125 '--cpus' "$inox" test --kernel "$scratch/text" --cpus 0

[ -w /dev/kvm ] && [ -e "$guests/exit" ] || { echo 'not checked: guests, for lack of /dev/kvm or the guests'; finish; }

verdict 0 ': ok after' "$inox" test --kernel "$guests/power_off"
checks=$((checks + 1))
[ -z "$(ls -d "$scratch"/inox-test.* 2>/dev/null | xargs -r -n1 sh -c 'ls "$0"' | grep power_off)" ] ||
    fail 'a good machine leaves nothing'
verdict 42 'the command ended with 42' "$inox" test --kernel "$guests/exit"
verdict 120 "the guest's kernel panicked: Attempted to kill init!" "$inox" test --kernel "$guests/panic_text"
verdict 120 'triple-faulted' "$inox" test --kernel "$guests/triple_fault"
verdict 121 'halted for good' "$inox" test --kernel "$guests/halt"
verdict 122 'line 4 of the console, warning: ' "$inox" test --kernel "$guests/warning"
shows 'line 7 of the console, oops: '
verdict 124 'vCPU 0: RIP 0x10' "$inox" test --kernel "$guests/spin" --timeout 1s
verdict 121 'vCPU 0: RIP 0x10' "$inox" test --kernel "$guests/spin" --quiet-for 1s

# Results of tests that the guest reports, in each form
verdict 1 '3 tests, 1 failed, 0 without a result, 1 skipped' \
    "$inox" test --kernel "$guests/ktap" --junit "$scratch/out.xml" --artifacts "$scratch/kept"
shows 'not ok: sums.large'
checks=$((checks + 1))
python3 - "$scratch/out.xml" <<'END' || fail 'the JUnit file should hold the three tests'
import sys, xml.etree.ElementTree as tree
suites = tree.parse(sys.argv[1]).getroot()
cases = {case.get('name'): [child.tag for child in case] for case in suites.iter('testcase')}
assert cases == {'boot': [], 'sums.small': [], 'sums.large': ['failure'], 'sums.huge': ['skipped']}, cases
assert 'EXPECTATION FAILED' in suites.find('.//failure').text
END
checks=$((checks + 1))
grep -q 'not ok 2 large' "$scratch/kept/0-ktap/console.log" || fail 'the console of a failure should be kept'
run "$inox" test --kernel "$guests/ktap" --tap
checks=$((checks + 1))
[ "$code" = 1 ] && [ -z "$err" ] && grep -q '^    not ok 2 - sums.large$' <<<"$out" &&
    grep -q '^not ok 1 - ktap$' <<<"$out" ||
    fail '--tap should print the results, and only them'

# The file's timeout is that of each machine; what it appends to an own command line is not lost
printf '{"test": {"kernels": ["%s"]}, "inox": {"timeout": "1s"}}' "$guests/spin" >"$scratch/conf/t.json"
verdict 124 'within 1000 ms' "$inox" test --config "$scratch/conf/t.json"
verdict 0 ': ok after' "$inox" test --config "$scratch/conf/t.json" --kernel "$guests/power_off"

# A matrix: each combination, a table, and one code; also some at a time
run "$inox" test --kernel "$guests/power_off" --kernel "$guests/exit" --cpus 1,2 --memory 64M,128M -j 3
checks=$((checks + 1))
[ "$code" = 42 ] && [ "$(grep -c ' ok  ' <<<"$err")" = 4 ] && [ "$(grep -c ' failed  ' <<<"$err")" = 4 ] ||
    fail 'eight machines, four of them good'
shows 'inox test: 4 of 8 machines are good'

# A bisection: the commit in the middle cannot be tested, the sixth panics
if command -v git >/dev/null; then
    commits=$scratch/commits
    git init -q "$commits"
    for kernel in "$guests"/power_off{,,} "$scratch/text" "$guests"/{power_off,panic_text,warning}; do
        cp "$kernel" "$commits/kernel"
        echo >>"$commits/count"
        git -C "$commits" add kernel count
        git -C "$commits" -c user.name=t -c user.email=t@example.org commit -q -m "$(basename "$kernel")"
    done
    git -C "$commits" bisect start HEAD HEAD~6 >/dev/null 2>&1
    run env -C "$commits" git bisect run "$inox" test --kernel kernel
    checks=$((checks + 1))
    [ "$code" = 0 ] && [[ $err == *': not run after'* ]] && grep -q 'is the first bad commit' <<<"$out" &&
        grep -q '^    panic_text$' <<<"$out" ||
        fail 'git bisect should find the kernel that panics'
fi

# Ctrl-C and the like: what runs is ended, what did not run is told
"$inox" test --kernel "$guests/spin" --kernel "$guests/power_off" >"$scratch/o" 2>"$scratch/e" &
pid=$!
eventually grep -q 'spin: starts' "$scratch/e"
eventually sh -c "pgrep -P $pid >/dev/null"
kill -INT $pid
await $pid 'an interrupted test'
err=$(cat "$scratch/e")
checks=$((checks + 1))
[ "$code" = 125 ] || fail 'an interrupted test should end with 125'
shows 'interrupted before it started'
shows '0 of 2 machines are good'
finish
