# SPDX-License-Identifier: Apache-2.0
# inox run, check and host: help, and every wrong use of an option.
. "$(dirname "$0")/lib.sh"

accepted 'inox run [OPTIONS]' "$inox" --help
accepted 'inox run [OPTIONS]' "$inox" help
accepted '--boot-timeline FILE' "$inox" run --help
accepted '--firecracker' "$inox" check --help
accepted '--json' "$inox" host -h
accepted 'inox 0.' "$inox" --version

refused 153 bad_option 'no command given' 'inox run' "$inox"
refused 153 bad_option "unknown command 'rnu'" "did you mean 'run'?" "$inox" rnu
refused 153 bad_option "unknown command 'frobnicate'" \
    'run, test, check, host, jail, snapshot, template, ps, ctl and exec' \
    "$inox" frobnicate
refused 153 bad_option "unknown option '--kernal'" "did you mean '--kernel'?" "$inox" run --kernal x
refused 153 bad_option "unknown option '--mem'" "did you mean '--memory'?" "$inox" run --mem=512
refused 153 bad_option "unknown option '--zzzzzz'" 'inox run --help' "$inox" run --zzzzzz
refused 153 bad_option "unknown option '--jsn'" "did you mean '--json'?" "$inox" host --jsn
refused 153 bad_option "unknown option '-z'" 'inox run --help' "$inox" run -z
refused 153 bad_option '--kernel: the value is missing' 'inox run --help' "$inox" run -k
refused 100 kernel_missing "--kernel: cannot open kernel '/nonexistent/k'" '' "$inox" run -k /nonexistent/k
refused 103 initrd_missing "--initrd: cannot open" '' "$inox" run -k "$inox" -i /nonexistent/i
refused 107 cpus_invalid '--cpus: 0 CPUs' '' "$inox" run -qvc0
refused 105 memory_invalid '--memory: 1 MiB' '64M' "$inox" run -m 1
accepted '-m,--memory SIZE' "$inox" run --help
accepted '-v,--verbose' "$inox" run --help
refused 153 bad_option "--disk: unknown key 'rq'" 'the keys here are' "$inox" run --disk path=f,rq
refused 97 disk_missing '--disk: ' '' "$inox" run --disk /nonexistent/d,ro
refused 153 bad_option "unexpected argument 'vmlinux'" 'inox run --help' "$inox" run vmlinux
refused 153 bad_option "unexpected argument 'b'" 'inox check --help' "$inox" check a b
refused 153 bad_option '--cpus: the value is missing' 'inox run --help' "$inox" run --cpus
refused 153 bad_option '--quiet: this option takes no value' 'inox run --help' "$inox" run --quiet=3
refused 153 bad_option 'the configuration file is missing' 'inox check vm.json' "$inox" check

refused 107 cpus_invalid '--cpus: 0 CPUs' '1 to 255' "$inox" run --cpus 0
refused 107 cpus_invalid '--cpus: 256 CPUs' '1 to 255' "$inox" run --cpus 256
refused 107 cpus_invalid '--cpus: 18446744073709551615 CPUs' '1 to 255' "$inox" run --cpus 18446744073709551615
refused 107 cpus_invalid '--cpus: 3 CPUs cannot be paired' 'even number' "$inox" run --cpus 3 --smt
refused 153 bad_option "--cpus: 'four'" 'such as 4' "$inox" run --cpus four
refused 153 bad_option "--cpus: '-1'" 'such as 4' "$inox" run --cpus=-1
refused 153 bad_option "--cpus: '99999999999999999999'" 'such as 4' "$inox" run --cpus 99999999999999999999

refused 105 memory_invalid '--memory: 0 bytes' '64M' "$inox" run --memory 0
refused 105 memory_invalid '--memory: 1 MiB' '64M' "$inox" run --memory 1
refused 105 memory_invalid '--memory: 4097 GiB' 'at most 4096 GiB' "$inox" run --memory 4097G
refused 105 memory_invalid '--memory: 129 MiB' '130 MiB' "$inox" run --memory 129 --huge-pages 2M
refused 105 memory_invalid '--memory: 65537 KiB' '65540 KiB' "$inox" run --memory 65537K
refused 153 bad_option "--memory: '12Q' is not a size" '512M or 4G' "$inox" run --memory 12Q
refused 153 bad_option "--memory: '' is not a size" '512M or 4G' "$inox" run --memory ''
refused 153 bad_option "--memory: '99999999999G' is not a size" '512M or 4G' "$inox" run --memory 99999999999G
refused 153 bad_option "--huge-pages: '1G'" 'none, transparent or 2M' "$inox" run --huge-pages 1G

refused 153 bad_option '--initrd: an initrd needs a kernel' 'name the kernel' "$inox" run --initrd x
refused 153 bad_option '--cmdline: a command line needs a kernel' 'name the kernel' "$inox" run --cmdline quiet
refused 153 bad_option '--kernel: the path is empty' 'name a file' "$inox" run --kernel ''
refused 153 bad_option '--root: a root needs a kernel' '--kernel' "$inox" run --root / -- true
refused 114 config_value '--root: a root and an initrd exclude each other' 'leave out' \
    "$inox" run --kernel x --initrd x --root /
refused 153 bad_option '--: a command needs a root to run in' '--root' "$inox" run -- true
refused 153 bad_option '--: the command is missing' 'behind --' "$inox" run --kernel x --root / --
refused 153 bad_option '--root-rw: there is no root' '--root' "$inox" run --kernel x --root-rw
refused 153 bad_option "--env: '=x' has no name" 'NAME=VALUE' "$inox" run --kernel x --root / --env =x
refused 114 config_value "--directory: 'x' does not begin with /" 'whole path' \
    "$inox" run --kernel x --root / --directory x
refused 153 bad_option "unknown option '--rot'" "did you mean '--root'?" "$inox" run --rot / -- --help
refused 87 root_missing "--root: cannot use '$scratch/none'" 'check the path' \
    "$inox" run --kernel "$source/README.md" --root "$scratch/none"
accepted '--directory' "$inox" exec --help
refused 153 bad_option 'the socket is missing' '-s' "$inox" exec -- true
refused 121 not_found "'$scratch/none'" '' "$inox" exec -s "$scratch/none" -- true
long=$(printf '%070000d' 0)
refused 108 cmdline_too_long '--cmdline: the kernel command line has 70000 bytes' 'room' \
    "$inox" run --kernel x --cmdline "$long"
refused 114 config_value '--cmdline: the kernel command line holds a control character' 'one line' \
    "$inox" run --kernel x --cmdline $'a\nb'

refused 153 bad_option "--timeout: 'soon'" '60s' "$inox" run --timeout soon
refused 153 bad_option "--timeout: '-1s'" '60s' "$inox" run --timeout=-1s
refused 153 bad_option "--timeout: '0' is not a time from 1ms to 366 days" '60s' "$inox" run --timeout 0
refused 153 bad_option "--timeout: '0' is not a time from 1ms to 366 days" '60s' "$inox" ctl -s x --timeout 0 status
refused 153 bad_option '--net queues: 33 is not a whole number from 1 to 16' '' "$inox" run --net t,queues=33
refused 153 bad_option "--vsock: the key 'uds' is missing" 'add it' "$inox" run --vsock cid=3
refused 106 memory_unavailable '--huge-pages: 100000 huge pages of 2 MiB are not free' 'transparent' \
    "$inox" run --memory 200000M --huge-pages 2M
refused 153 bad_option "--expect: '(' is not a regular expression" 'grep -E' "$inox" run --expect '('
refused 153 bad_option "--boot-timeline: 'x.png'" 'ending' "$inox" run --boot-timeline x.png
refused 153 bad_option "--log-level: 'loud'" 'Warning' "$inox" run --log-level loud
refused 119 output_unwritable '/nonexistent/log' '' "$inox" run --log-path /nonexistent/log

# What would have no effect.
refused 114 config_value '--api-group: a group for the clients of the API, but it has no socket' 'api_sock' \
    "$inox" run --api-group root
refused 114 config_value '--api-connections: a number of clients of the API, but it has no socket' 'api_sock' \
    "$inox" run --api-connections 3
refused 114 config_value '--keep-fds: descriptor 99 is not open' '99<>FILE' \
    "$inox" run --api-sock "$scratch/s" --keep-fds 99
refused 114 config_value "--disk: the partition 'x' of disk 'drive0' has no effect" 'root=on' \
    "$inox" run --disk d,partuuid=x

# As many as there can be: what is told is that the kernel is missing.
refused 100 kernel_missing '--kernel: ' '' "$inox" run --cpus 255 --kernel /nonexistent/k
if [ -w /dev/kvm ]; then
    accepted 'inox' "$inox" run --cpus 255 --timeout 100s
fi

# What the host lacks is told by the option that asked for it, and before KVM.
refused 100 kernel_missing "--kernel: cannot open kernel '/nonexistent/k'" 'path' "$inox" run --kernel /nonexistent/k
refused 97 disk_missing "--disk: cannot open disk image '/nonexistent/d'" 'truncate' "$inox" run --disk /nonexistent/d
refused 119 output_unwritable "--console: cannot open '/nonexistent/c'" 'directory' "$inox" run --console /nonexistent/c
refused 119 output_unwritable "--api-sock: Failed to open" 'folder' "$inox" run --api-sock /nonexistent/s
printf '{"drives": [{"path": "/nonexistent/a"}]}' >"$scratch/vm.json"
refused 97 disk_missing "$scratch/vm.json#/drives/0/path_on_host: " '' \
    "$inox" run --config "$scratch/vm.json" --disk /nonexistent/d

# A guest that was saved
refused 82 snapshot_missing "--from: cannot open the snapshot's state /nonexistent/s/state" 'snapshot' \
    "$inox" run --from /nonexistent/s
mkdir "$scratch/snap"
head -c 5000 /dev/zero >"$scratch/snap/state"
refused 83 snapshot_invalid "--from: the snapshot's state is none" 'state file' "$inox" run --from "$scratch/snap"
refused 83 snapshot_invalid "the snapshot's state is none" '' "$inox" snapshot info "$scratch/snap"
refused 83 snapshot_invalid "the snapshot's state is none" '' "$inox" snapshot verify "$scratch/snap"
refused 153 bad_option '--from: the path is empty' 'folder' "$inox" run --from ''
refused 153 bad_option '--paused: ' '--from DIR' "$inox" run --paused
refused 153 bad_option "--clock: 'late'" 'realtime' "$inox" run --from "$scratch/snap" --clock late
refused 153 bad_option '--memory: ' 'inox snapshot info' "$inox" run --from "$scratch/snap" --memory 64M
refused 153 bad_option '--on-reboot: ' 'fail' "$inox" run --from "$scratch/snap" --on-reboot restart
refused 153 bad_option 'the command is missing' 'info, verify and merge' "$inox" snapshot
refused 153 bad_option "unknown command 'inof'" "did you mean 'info'?" "$inox" snapshot inof x
accepted 'verify' "$inox" snapshot --help
refused 153 bad_option 'the folder is missing' 'inox template DIR' "$inox" template
refused 153 bad_option '--api-sock: ' 'name a socket' "$inox" template "$scratch/snap"
refused 153 bad_option "unknown option '--memory'" 'inox template --help' "$inox" template "$scratch/snap" --memory 1
refused 82 snapshot_missing "DIR: cannot open the snapshot's state" '' \
    "$inox" template /nonexistent/s --api-sock "$scratch/template"
refused 83 snapshot_invalid "DIR: the snapshot's state is none" '' \
    "$inox" template "$scratch/snap" --api-sock "$scratch/template"
[ ! -e "$scratch/template" ] || fail "a template that failed left its socket"
refused 153 bad_option '--count is of spawn' '' "$inox" ctl -s "$scratch/template" status --count 3
refused 153 bad_option "'fd:77' is no descriptor that is open" '' \
    "$inox" ctl -s "$scratch/template" spawn --disk id=a,path=fd:77
accepted '--allow' "$inox" template --help

# All problems at once, the first one's exit code.
refused 107 cpus_invalid '--cpus: 0 CPUs' '' "$inox" run --cpus 0 --memory 1
shows '[memory_invalid]'
refused 153 bad_option "--memory: 'x'" '' "$inox" run --memory x --timeout y
shows "--timeout: 'y'"

# Those of the host, too, and those of the host alone.
refused 107 cpus_invalid '--cpus: 0 CPUs' '' "$inox" run --cpus 0 --disk /nonexistent/d --kernel /nonexistent/k
shows '--disk: '
shows '--kernel: '
refused 119 output_unwritable '--console: ' '' "$inox" run --kernel /nonexistent/k --disk /nonexistent/d --console /no/c
shows '--kernel: '
shows '--disk: '
checks=$((checks + 1))
[ "$(grep -c output_unwritable <<<"$err")" = 1 ] || fail 'a problem should be told once'
printf '{"drives": [{"path": "/nonexistent/a"}], "loger": {}}' >"$scratch/vm.json"
refused 112 config_unknown_key '/loger' '' "$inox" run --config "$scratch/vm.json" --memory 1
shows '#/drives/0/path_on_host'
shows '--memory: 1 MiB'

# A terminal is safe from what was typed.
refused 153 bad_option "unknown option '--?[31m'" '' "$inox" run $'--\e[31m'
finish
