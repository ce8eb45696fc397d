# SPDX-License-Identifier: Apache-2.0
# `inox test --slurm` on a cluster of one machine: a controller, two nodes, and tasks that end, fail, are killed and are
# canceled.
. "$(dirname "$0")/lib.sh"

for program in munged slurmctld slurmd sbatch scontrol; do
    command -v $program >/dev/null ||
        { echo "$program is missing (Debian: slurmctld slurmd slurm-client munge)"; exit 77; }
done
[ "$(id -u)" = 0 ] || { echo 'slurmd needs root'; exit 77; }
guests=$(dirname "$inox")/tests/kvm/guests

# The cluster, in a folder of its own and on ports of the loopback that nobody has
cluster=$scratch/cluster
mkdir -p "$cluster"/{state,spool/n1,spool/n2,log}
chmod 755 "$scratch" "$cluster"
free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
head -c 128 /dev/urandom >"$cluster/munge.key"
chmod 600 "$cluster/munge.key"
cat >"$cluster/slurm.conf" <<END
ClusterName=test
SlurmctldHost=$(hostname)(127.0.0.1)
SlurmctldPort=$(free_port)
AuthType=auth/munge
AuthInfo=socket=$cluster/munge.socket
CredType=cred/munge
SlurmUser=root
StateSaveLocation=$cluster/state
SlurmdSpoolDir=$cluster/spool/%n
SlurmctldPidFile=$cluster/ctld.pid
SlurmdPidFile=$cluster/%n.pid
SlurmctldLogFile=$cluster/log/ctld
SlurmdLogFile=$cluster/log/%n
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
ReturnToService=2
MpiDefault=none
JobRequeue=0
NodeName=n1 NodeHostname=$(hostname) NodeAddr=127.0.0.1 Port=$(free_port) CPUs=2 RealMemory=4000
NodeName=n2 NodeHostname=$(hostname) NodeAddr=127.0.0.1 Port=$(free_port) CPUs=2 RealMemory=4000
PartitionName=ci Nodes=n[1-2] Default=YES State=UP
END
export SLURM_CONF=$cluster/slurm.conf
started=()
stop_cluster() {
    scontrol shutdown >/dev/null 2>&1
    sleep 1
    kill "${started[@]}" 2>/dev/null
    wait "${started[@]}" 2>/dev/null
    rm -rf "$scratch"
}
trap stop_cluster EXIT
# soon COMMAND...: as eventually, but a minute and a half is enough for a cluster that can come up here
soon() {
    local end=$((SECONDS + 90))
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt $end ] || return 1
        sleep 0.1
    done
}

munged --foreground --force --key-file="$cluster/munge.key" --socket="$cluster/munge.socket" \
    --pid-file="$cluster/munge.pid" --log-file="$cluster/log/munge" --seed-file="$cluster/munge.seed" \
    >"$cluster/log/munge.out" 2>&1 &
started+=($!)
soon test -S "$cluster/munge.socket" || { echo 'skipped: munged does not start:'; cat "$cluster"/log/munge*; exit 77; }
slurmctld -D -i -f "$SLURM_CONF" >"$cluster/log/ctld.out" 2>&1 &
started+=($!)
for node in n1 n2; do
    slurmd -D -N $node -f "$SLURM_CONF" >"$cluster/log/$node.out" 2>&1 &
    started+=($!)
done
two_idle() { [ "$(sinfo -h -N -o '%N %t' 2>/dev/null | grep -c ' idle')" = 2 ]; }
soon two_idle || { echo 'skipped: the nodes do not come up:'; tail -n 20 "$cluster"/log/*; exit 77; }

cd "$scratch" || exit 1
mkdir shared
printf 'no kernel' >bad-kernel

# Tasks that tell by themselves what is wrong
run "$inox" test --slurm --kernel bad-kernel --cpus 1,2 --artifacts shared --junit out.xml
checks=$((checks + 1))
[ "$code" = 125 ] && [ -s out.xml ] && [ "$(grep -c 'not run' <<<"$err")" -ge 2 ] ||
    fail 'two tasks that cannot run their kernel'
shows 'inox test: 0 of 2 machines are good'
shows '2 tasks, in '
checks=$((checks + 1))
[ -z "$(ls shared/*.outcome 2>/dev/null)" ] || fail 'outcomes that were read stay'
refused 125 host_error 'sbatch ended with' 'sinfo' \
    "$inox" test --slurm --slurm-option --partition=none --kernel bad-kernel

# A task that somebody cancels leaves no result, which is not a failure of the kernel; the others go on
rm -f e
"$inox" test --slurm --slurm-option --begin=now+1hour --kernel bad-kernel --memory 64M,128M,256M \
    --artifacts shared >o 2>e &
pid=$!
eventually grep -q "Slurm's job" e
id=$(sed -n "s/.*Slurm's job \([0-9]*\):.*/\1/p" e)
scancel "${id}_1"
scontrol update JobId="$id" StartTime=now
await $pid 'a test with a canceled task'
err=$(cat e)
checks=$((checks + 1))
[ "$code" = 125 ] && [ "$(grep -c 'repeat: inox test --kernel bad-kernel --memory' <<<"$err")" = 3 ] ||
    fail 'three tasks, one of them canceled'
shows 'Slurm does not know the task: it was canceled'

# Interrupted: the job is canceled, and the test says so at once
rm -f e
"$inox" test --slurm --slurm-option --begin=now+1hour --kernel bad-kernel --cpus 1,2 --artifacts shared >o 2>e &
pid=$!
eventually grep -q "Slurm's job" e
kill -INT $pid
await $pid 'an interrupted test'
err=$(cat e)
checks=$((checks + 1))
[ "$code" = 125 ] || fail 'an interrupted test should end with 125'
shows 'interrupted'
none_left() { [ -z "$(squeue -h -t pending,running)" ]; }
checks=$((checks + 1))
eventually none_left || fail 'no task should be left'

if [ -c /dev/kvm ] && [ -e "$guests/exit" ]; then # -c: not another time in the lab
    rm -rf shared
    run "$inox" test --slurm --kernel "$guests/power_off" --kernel "$guests/exit" --cpus 1,2 --artifacts shared
    checks=$((checks + 1))
    [ "$code" = 42 ] || fail 'the code of four tasks should be that of the one that failed'
    shows 'inox test: 2 of 4 machines are good'
    # Tasks that are good leave nothing, the others what they said and their folder
    checks=$((checks + 1))
    [ "$(ls shared)" = "$(printf '%s\n' 2-exit-1 2.slurm 3-exit-2 3.slurm)" ] || fail "left behind: $(ls shared)"
    run "$inox" test --slurm --kernel "$guests/power_off"
    checks=$((checks + 1))
    gone_again() { [ -z "$(ls -d inox-test.* 2>/dev/null)" ]; }
    [ "$code" = 0 ] && gone_again || fail "a good test left its folder: $(ls inox-test.*)"
    # A task whose process is killed is not a failure of the kernel
    rm -f e
    "$inox" test --slurm --kernel "$guests/spin" --timeout 100s --artifacts shared >o 2>e &
    pid=$!
    eventually grep -q "Slurm's job" e
    eventually pgrep -f 'test --slurm-task .*guests/spin'
    pkill -KILL -f 'test --slurm-task .*guests/spin'
    await $pid 'a test whose task is killed'
    err=$(cat e)
    checks=$((checks + 1))
    [ "$code" = 125 ] || fail 'a killed task should end the test with 125'
    shows 'by signal 9'
fi
finish
