#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Debian's kernels use folders that inox serves itself, started by a user who is not root: owners, links, pipes, locks,
renames, deep and large folders, one that is shared for reading only, and one that comes and goes by the control API.
All of it in one start of the lab machine.

    share.py INOX
INOX_TEST_KERNELS: which kernels (default: 6.12 and 6.1-cloud).
"""
import json, os, pathlib, subprocess, time
import lab
from lab import Guest, check, checks, expect, expect_same, read

KERNELS = os.environ.get("INOX_TEST_KERNELS", "6.12 6.1-cloud").split()
USER = 4242
SOCKET, CONFIG, PROGRAM = "/tmp/share-of-user/api", "/tmp/share.json", "/tmp/share-locks"
AS_USER = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups"]
WORK, LATE = pathlib.Path("/tmp/share-work"), pathlib.Path("/tmp/share-late")


def outside(inox):
    kernels = {name: lab.dev("kernel", name) for name in KERNELS}
    work = lab.work_directory("share")
    program = lab.compiled(work / "locks", "tests/lab/locks.c")
    lab.enter("--smp", "1", "--memory", "1536", "--timeout", "1500", inox=inox, kernels=kernels, program=program,
              initrd=lab.dev("initramfs"))


def inside(inox, kernels, initrd, program):
    os.chmod("/dev/kvm", 0o666)
    os.umask(0o022)
    lab.output("cp", program, PROGRAM)
    os.makedirs(os.path.dirname(SOCKET))
    os.chown(os.path.dirname(SOCKET), USER, USER)
    prepare_folders()
    for name, kernel in kernels.items():
        Life(*(for_everybody(path) for path in (inox, kernel, initrd))).live(name)


def for_everybody(path):
    """A copy of a file that may lie in a folder of root's"""
    copy = f"/tmp/share-{os.path.basename(path)}"
    lab.output("cp", path, copy)
    os.chmod(copy, 0o755)
    return copy


def prepare_folders():
    for folder in (WORK, LATE):
        folder.mkdir()
        os.chown(folder, USER, USER)
    lab.output("cp", PROGRAM, WORK / "locks")
    for name, user, group, mode in (("of-root", 0, 0, 0o644), ("secret", 0, 0, 0o600), ("of-other", 1234, 5678, 0o640),
                                    ("mine", USER, USER, 0o600)):
        lab.write(WORK / name, f"text of {name}\n")
        os.chown(WORK / name, user, group)
        os.chmod(WORK / name, mode)
    os.symlink("/etc/passwd", WORK / "absolute")
    os.symlink("../share-late", WORK / "up")
    lab.write(LATE / "late", "late\n")


def said_by(process):
    """Its command line; nothing of one that is gone"""
    try:
        return lab.read(process / "cmdline")
    except ProcessLookupError:
        return ""


class Life:
    """A guest from its boot to its end."""

    def __init__(self, inox, kernel, initrd):
        lab.remove(SOCKET)
        lab.write(CONFIG, json.dumps({
            "boot-source": {"kernel_image_path": kernel, "initrd_path": initrd,
                            "boot_args": "console=ttyS0 quiet loglevel=1 panic=-1"},
            "machine-config": {"vcpu_count": 1, "mem_size_mib": 256},
            "shares": [{"tag": "work", "path": str(WORK)}, {"tag": "same", "path": str(WORK), "read_only": True}],
            "inox": {"allow": [str(LATE), "/nonexistent"]}}))
        self.guest = Guest(*AS_USER, inox, "run", "--config", CONFIG, "--api-sock", SOCKET, "--timeout", "1400s")
        self.api = lab.Api(SOCKET)

    def live(self, name):
        if not check(name, self.mounts_both):
            return
        checks(name, self.sees_owners_and_kinds, self.makes_files_that_belong_to_the_user,
               self.is_root_only_as_far_as_the_user_is, self.follows_links_within_itself,
               self.passes_data_through_a_pipe, self.renames, self.locks_against_itself,
               self.locks_against_the_host, self.has_a_deep_tree, self.has_1000_files, self.sees_what_the_host_changes,
               self.may_not_write_where_it_may_only_read, self.runs_programs_from_it,
               self.reads_and_writes_at_some_speed, self.a_share_comes_and_goes,
               self.mounts_again_when_the_server_was_killed, self.has_no_complaint_in_its_log,
               self.leaves_no_server_behind)

    def servers(self):
        return [path.name for path in pathlib.Path("/proc").glob("[0-9]*") if "share-server" in said_by(path)]

    def mounts_both(self):
        self.guest.enter_shell()
        self.guest.ask("mkdir -p /work /same /late && mount -t virtiofs work /work && mount -t virtiofs same /same")
        self.guest.says("text of mine", "cat /work/mine")
        expect_same(len(self.servers()), 2)

    def stat(self, path):
        return self.guest.ask(f"stat -c '%u:%g %a %F' {path}")

    def sees_owners_and_kinds(self):
        for name, wanted in (("of-root", "0:0 644 regular file"), ("of-other", "1234:5678 640 regular file"),
                             ("mine", f"{USER}:{USER} 600 regular file"), ("up", "0:0 777 symbolic link")):
            expect_same(self.stat(f"/work/{name}"), wanted)

    def makes_files_that_belong_to_the_user(self):
        self.guest.ask("umask 027; echo new >/work/new && mkdir /work/folder && ln /work/new /work/second &&"
                       " ln -s new /work/link && chmod 604 /work/new")
        expect_same(self.stat("/work/new"), f"{USER}:{USER} 604 regular file")
        expect_same(self.stat("/work/folder"), f"{USER}:{USER} 750 directory")
        self.guest.says("2", "stat -c %h /work/second")
        self.guest.says("new", "cat /work/link")
        there = os.stat(WORK / "new")
        expect_same((there.st_uid, there.st_gid, there.st_nlink), (USER, USER, 2))
        self.guest.ask("rm /work/new /work/second /work/link && rmdir /work/folder")
        expect(not (WORK / "second").exists(), "a removed name is there")

    def is_root_only_as_far_as_the_user_is(self):
        self.guest.says("no", "cat /work/secret 2>/dev/null || echo no")
        self.guest.says("no", "chown 0:0 /work/mine 2>/dev/null || echo no")
        self.guest.says("no", "mknod /work/null c 1 3 2>/dev/null || echo no")
        self.guest.says("no", "echo x 2>/dev/null >>/work/of-root || echo no")

    def follows_links_within_itself(self):
        self.guest.says("/etc/passwd", "readlink /work/absolute")
        self.guest.says("no", "cat /work/up/late 2>/dev/null || echo no")
        self.guest.says("the guest's",
                        "mkdir -p /share-late && echo the guest\\'s >/share-late/late && cat /work/up/late")

    def passes_data_through_a_pipe(self):
        self.guest.ask("mkfifo /work/pipe && ( cat /work/pipe >/tmp/out & ) && echo through >/work/pipe")
        self.guest.ask("until [ -s /tmp/out ]; do usleep 50000; done")
        self.guest.says("through", "cat /tmp/out")
        self.guest.ask("rm /work/pipe")

    def renames(self):
        self.guest.ask("cd /work && echo a >a && echo b >b && ./locks exchange a b")
        self.guest.says("b", "cat /work/a")
        self.guest.says("17", "cd /work; ./locks noreplace a b; echo $?")
        self.guest.ask("cd /work && mkdir one two && mv a one/a && mv one/a two/b && mv one two/one && mv b two/b")
        self.guest.says("a", "cat /work/two/b")
        self.guest.ask("rm -r /work/two")

    def locks_against_itself(self):
        for kind in ("flock", "fcntl"):
            self.guest.says("taken", f"""cd /work; ( ./locks hold {kind} lock 8 >/tmp/holds & )
                until grep -qs held /tmp/holds; do usleep 50000; done; ./locks try {kind} lock""")
            self.guest.says("had", f"cd /work; ./locks wait {kind} lock")
            self.guest.says("free", f"cd /work; ./locks try {kind} lock")

    def locks_against_the_host(self):
        for kind in ("flock", "fcntl"):
            os.path.exists(WORK / "lock") and os.chmod(WORK / "lock", 0o666)
            holder = subprocess.Popen([PROGRAM, "hold", kind, WORK / "lock", "1000"], stdout=subprocess.PIPE)
            expect_same(holder.stdout.readline(), b"held\n")
            self.guest.says("taken", f"cd /work; ./locks try {kind} lock")
            self.guest.ask(f"cd /work; rm -f /tmp/had; ( ./locks wait {kind} lock >/tmp/had & )")
            self.guest.says("still here", "sleep 1; [ ! -s /tmp/had ] && ls /work >/dev/null && echo still here")
            holder.kill()
            holder.wait()
            self.guest.ask("until [ -s /tmp/had ]; do usleep 50000; done")

    def has_a_deep_tree(self):
        name = "d" * 60
        self.guest.ask(f"cd /work; for i in $(seq 60); do mkdir {name} && cd {name} || exit 1; done; echo leaf >leaf")
        self.guest.says("60", f"find /work -name {name} | wc -l")
        self.guest.ask(f"rm -r /work/{name}")

    def has_1000_files(self):
        self.guest.ask("mkdir /work/many && cd /work/many && for i in $(seq 1000); do echo $i >file-$i; done", 600)
        self.guest.says("1000", "ls /work/many | wc -l")
        self.guest.says("500500", "cat /work/many/* | awk '{ s += $1 } END { print s }'", 600)
        expect_same(len(os.listdir(WORK / "many")), 1000)
        self.guest.ask("rm -r /work/many", 600)
        expect(not (WORK / "many").exists(), "it is still there")

    def sees_what_the_host_changes(self):
        lab.write(WORK / "changing", "one\n")
        self.guest.says("one", "cat /work/changing")
        lab.write(WORK / "changing", "two!\n")
        self.guest.ask("until [ $(cat /work/changing) = two! ]; do usleep 100000; done", 60)
        os.remove(WORK / "changing")
        self.guest.ask("while [ -e /work/changing ]; do usleep 100000; done", 60)

    def may_not_write_where_it_may_only_read(self):
        self.guest.says("text of mine", "cat /same/mine")
        for line in ("echo x >/same/new", "echo x >>/same/mine", "rm /same/mine", "mkdir /same/folder",
                     "chmod 777 /same/mine",
                     "mv /same/mine /same/yours", "touch /same/mine", "ln /same/mine /same/second"):
            self.guest.says("Read-only file system", f"{{ {line}; }} 2>&1 | sed 's/.*: //' | tail -n 1")
        expect_same(read(WORK / "mine"), "text of mine\n")

    def runs_programs_from_it(self):
        self.guest.says("free", "/same/locks try flock /tmp/x")

    def reads_and_writes_at_some_speed(self):
        def rate(line):
            begin = time.monotonic()
            self.guest.ask(line, 600)
            return 16 / (time.monotonic() - begin)

        writes = rate("dd if=/dev/zero of=/work/data bs=1M count=16 2>/dev/null")
        reads = rate("echo 3 >/proc/sys/vm/drop_caches; dd if=/work/data of=/dev/null bs=1M 2>/dev/null")
        lab.note(f"MiB/s in the lab: {writes:.1f} written, {reads:.1f} read")
        self.guest.ask("rm /work/data")

    def a_share_comes_and_goes(self):
        for turn in range(2):
            self.api.ask("PUT", "/inox/devices/late", {"share": {"path": str(LATE)}})
            self.guest.ask("until mount -t virtiofs late /late 2>/dev/null; do usleep 100000; done")
            self.guest.says("late", "cat /late/late")
            self.guest.ask("umount /late")
            self.api.ask("DELETE", "/inox/devices/late")
            self.api.gone("late")
            expect_same(len(self.servers()), 2)
        self.api.ask("PUT", "/inox/devices/late", {"share": {"path": "/nonexistent"}}, 400)
        self.api.ask("PUT", "/inox/devices/late", {"share": {"path": str(LATE.parent)}}, 400)  # not allowed

    def mounts_again_when_the_server_was_killed(self):
        for server in self.servers():
            os.kill(int(server), 9)
        self.guest.says("no", "ls /work/mine >/dev/null 2>&1 || echo no")
        self.guest.ask("cd /; umount /work; umount /same")
        self.guest.ask("until mount -t virtiofs work /work 2>/dev/null; do usleep 300000; done", 60)
        self.guest.says("text of mine", "cat /work/mine")
        expect_same(len(self.servers()), 1)

    def has_no_complaint_in_its_log(self):
        self.guest.complaints("WARNING: CPU|BUG:|[Oo]ops|virtio.*(fail|error)|fuse:.*(fail|error)|hung task")

    def leaves_no_server_behind(self):
        self.guest.type("exit 0")
        expect_same(self.guest.finish(120), 0)
        lab.wait_until("the server is gone", 10, lambda: not self.servers())


if __name__ == "__main__":
    lab.main(outside, inside)
