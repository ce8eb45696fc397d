# SPDX-License-Identifier: Apache-2.0
# The examples of docs/ci.md: YAML that parses, steps that are shell, options that `inox test` has. What they do to a
# hosted runner cannot be tried here.
#   ci_examples_test.sh INOX SOURCE
inox=$1 source=$2
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
python3 - "$source/docs/ci.md" "$scratch" <<'END' || exit 1
import re, sys, yaml
blocks = re.findall(r'^```yaml\n(.*?)^```$', open(sys.argv[1]).read(), re.S | re.M)
assert len(blocks) == 2, f'{len(blocks)} examples'
github, gitlab = (yaml.safe_load(block) for block in blocks)
steps = [step['run'] for step in github['jobs']['boot']['steps'] if 'run' in step]
assert all('uses' in step or 'run' in step for step in github['jobs']['boot']['steps'])
job = gitlab['kernel']
scripts = {'github': '\n'.join(steps), 'gitlab': '\n'.join(job['before_script'] + job['script'])}
assert job['artifacts']['reports']['junit'] == 'results.xml'
for name, script in scripts.items():
    open(f'{sys.argv[2]}/{name}', 'w').write(script + '\n')
END
failed=0
for name in github gitlab; do
    bash -n "$scratch/$name" || { echo "FAILED: $name's steps are no shell"; failed=1; }
    # The step itself, up to the kernel, which this folder does not hold
    step=$(grep -o 'inox test .*check.sh' "$scratch/$name")
    [ -n "$step" ] || { echo "FAILED: $name does not test"; failed=1; continue; }
    said=$(cd "$scratch" && eval "'$inox' ${step#inox }" 2>&1)
    code=$?
    if [ $code != 125 ] || ! grep -q 'kernel_missing' <<<"$said" || grep -q 'bad_option' <<<"$said"; then
        echo "FAILED: $name: '$step' ended with $code: $said"
        failed=1
    fi
done
[ -e "$source/configs/guest.config" ] || { echo 'FAILED: there is no configs/guest.config'; failed=1; }
exit $failed
