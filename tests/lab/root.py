#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A command runs in a guest whose files are an image, a tar archive or a folder: with its status, its environment and
its directory, on Debian's kernels, whose drivers are modules. What it writes stays where it belongs; a root that cannot
be mounted is told as such. All of it in one start of the lab machine.

    root.py INOX
"""
import json, os, pathlib, re, shutil, subprocess, tarfile
import lab
from lab import Guest, check, expect, expect_match, expect_same, read

KERNELS = ["6.1", "6.12"]
CMDLINE = "console=ttyS0 loglevel=1 panic=-1"


def outside(inox):
    work = lab.work_directory("root")
    tree = work / "tree"
    for folder in ("bin", "etc", "work/here"):
        (tree / folder).mkdir(parents=True)
    shutil.copy("/bin/busybox", tree / "bin/busybox")
    for name in ("sh", "cat", "echo", "kill", "ls", "sync", "stat", "env", "ps", "tty", "mount", "ip", "sleep",
                 "uname", "stty", "head", "mkdir", "test"):
        (tree / "bin" / name).symlink_to("busybox")
    (tree / "etc/kept").write_text("as it was\n")
    (tree / "etc/owned").write_text("x")
    os.chown(tree / "etc/owned", 7, 8)
    os.link(tree / "etc/kept", tree / "etc/second")
    with tarfile.open(work / "root.tar.gz", "w:gz") as tar:
        tar.add(tree, ".")
    lab.output("mkfs.ext4", "-q", "-d", str(tree), str(work / "disk"), "32M")
    lab.output("mkfs.ext4", "-q", str(work / "other"), "8M")    # an image without a program
    make_images(tree, work)
    kernels = {name: (lab.dev("kernel", name), lab.dev("modules", name)) for name in KERNELS}
    lab.enter("--smp", "1", "--memory", "3072", "--timeout", "2400", "--out", str(work), inox=inox, work=str(work),
              kernels=kernels)


def make_images(tree, work):
    """The same files in other file systems, where this host can make them, and in the second partition of a disk"""
    for kind, size, command in (("xfs", "300M", ["mkfs.xfs", "-q", "-p", f"{work}/prototype"]),
                                ("btrfs", "128M", ["mkfs.btrfs", "-q", "--rootdir", str(tree)]),
                                ("erofs", None, ["mkfs.erofs", "--quiet", "{image}", str(tree)])):
        if not shutil.which(command[0]):
            lab.note(f"not checked: a root with {kind}, for lack of {command[0]} here")
            continue
        lab.write(work / "prototype", f"boot\n0 0\nd--755 0 0\n{prototype(tree)}$\n")
        image = str(work / f"disk.{kind}")
        if size:
            lab.output("truncate", "-s", size, image)
            command.append(image)
        lab.output(*(word.format(image=image) for word in command))
    if not shutil.which("sfdisk"):
        lab.note("not checked: a disk with partitions, for lack of sfdisk here")
        return
    for kind in ("gpt", "dos"):
        image = work / f"disk.{kind}"
        lab.output("truncate", "-s", "48M", str(image))
        subprocess.run(["sfdisk", "-q", str(image)], input=f"label: {kind}\nsize=4MiB\nsize=32MiB\n", text=True,
                       check=True)
        start = json.loads(lab.output("sfdisk", "--json", str(image)))["partitiontable"]["partitions"][1]["start"]
        lab.output("dd", f"if={work}/disk", f"of={image}", f"seek={start}", "conv=notrunc", "status=none")


def prototype(folder):
    """The entries of a folder, as mkfs.xfs -p reads them"""
    text = ""
    for path in sorted(folder.iterdir()):
        if path.is_symlink():
            text += f"{path.name} l--777 0 0 {os.readlink(path)}\n"
        elif path.is_dir():
            text += f"{path.name} d--755 0 0\n{prototype(path)}$\n"
        else:
            text += f"{path.name} ---755 0 0 {path}\n"
    return text


def inside(inox, work, kernels):
    for name, (kernel, modules) in kernels.items():
        start = [inox, "run", "--kernel", kernel, "--modules", modules, "--memory", "512M", "--timeout", "300s"]
        Roots(name, start, work).all()
    kernel, modules = kernels["6.12"]
    start = [inox, "run", "--kernel", kernel, "--modules", modules, "--memory", "512M"]
    for kind in ("xfs", "btrfs", "erofs", "gpt", "dos"):
        image = pathlib.Path(work, f"disk.{kind}")
        if image.exists():
            check("6.12", an_image_is_a_root, kind, image, start)
    check("refused", modules_of_another_kernel_are, inox, kernel, kernels["6.1"][1], f"{work}/disk")


def modules_of_another_kernel_are(inox, kernel, modules, root):
    done = lab.run(inox, "run", "--kernel", kernel, "--modules", modules, "--root", root, "--", "true")
    expect_same(done.returncode, 89)
    expect_match(r"--modules: .* has no modules for the kernel 6\.12.*\[modules_missing\]", done.stdout)


def an_image_is_a_root(kind, image, start):
    """Itself, or below a layer in memory"""
    itself = {"xfs": "xfs", "btrfs": "btrfs", "gpt": "ext4"}.get(kind)
    before = itself or lab.sha256(image)
    guest = Guest(*start, "--root", str(image), *(["--root-rw"] if itself else []), "--timeout", "300s", "--cmdline",
                  CMDLINE, "--", "sh", "-c", "cat /etc/kept; echo x >>/etc/kept; cat /etc/kept; cat /proc/mounts")
    expect_same(guest.finish(400), 0)
    expect(guest.console.startswith("as it was\nas it was\nx\n"), f"{guest.console!r}")
    expect_match(f"^[^ ]+ / {itself or 'overlay'} ", guest.console)
    expect_same(itself or lab.sha256(image), before)


class Roots:
    def __init__(self, name, start, work):
        self.name, self.start, self.work = name, start, work
        self.disk, self.tree = f"{work}/disk", f"{work}/tree"

    def all(self):
        for function in (self.a_command_of_an_image_has_its_status_environment_and_directory,
                         self.a_folder_is_a_root, self.a_folder_is_written_to_with_root_rw, self.this_machine_is_a_root,
                         self.a_signal_is_told, self.a_missing_command_is_127, self.what_it_writes_stays_with_root_rw,
                         self.an_archive_is_a_root, self.a_taint_is_found, self.a_root_without_its_driver_is_told,
                         self.a_shell_has_job_control, self.more_commands_run_by_vsock):
            check(self.name, function)

    def run(self, root, script, *options, log=CMDLINE, directory=None):
        os.chdir(directory or "/")
        command = ["--", "sh", "-c", script] if isinstance(script, str) else ["--", *script]
        guest = Guest(*self.start, "--root", root, "--cmdline", log, *options, *command)
        guest.process.stdin.close()
        guest.finish(400)
        return guest

    def a_command_of_an_image_has_its_status_environment_and_directory(self):
        os.environ["INOX_TEST_HERE"] = "from here"
        before = lab.sha256(self.disk)
        guest = self.run(self.disk, "echo \"is $A and $INOX_TEST_HERE and $PATH\"; pwd; echo changed >/etc/kept; cat "
                         "/etc/kept; echo >/new && echo made; tty; ip a s lo | grep -c LOOPBACK,UP; cat /proc/cmdline; "
                         "mount; exit 7", "--env", "A=b c", "--env", "INOX_TEST_HERE", "--directory", "/work/here")
        expect_same(guest.process.returncode, 7)
        for line in ("is b c and from here and /usr/local", "/work/here", "changed", "made", "/dev/ttyS0", "1",
                     "root on / type overlay", "cgroup2 on /sys/fs/cgroup", "devpts on /dev/pts"):
            expect(line in guest.console, f"no '{line}' in {guest.console!r}")
        expect("sh -c" not in guest.console, "the command is on the kernel's command line")
        expect_same(lab.sha256(self.disk), before)

    def a_folder_is_a_root(self):
        before = read(f"{self.tree}/etc/kept")
        guest = self.run(self.tree, "pwd; stat -c '%u %g %h %n' /etc/owned /etc/second; echo x >/etc/kept; cat "
                         "/etc/second; >/new; mount; head -c 3 /lib/modules/$(uname -r)/modules.dep; exit 5",
                         directory=f"{self.tree}/work/here")
        expect_same(guest.process.returncode, 5)
        for line in ("/work/here", "7 8 1 /etc/owned", "as it was", "root on / type overlay",
                     "inox-modules on /lib/modules/", "\nker"):
            expect(line in guest.console, f"no '{line}' in {guest.console!r}")
        expect_same((read(f"{self.tree}/etc/kept"), os.path.exists(f"{self.tree}/new")), (before, False))

    def a_folder_is_written_to_with_root_rw(self):
        written = f"{self.work}/tree.{self.name}"
        shutil.copytree(self.tree, written, symlinks=True)
        guest = self.run(written, "echo by $(uname -r) >/etc/kept; mkdir /made; test ! -e /lib", "--root-rw")
        expect_same(guest.process.returncode, 0)
        expect_match(r"^by 6\.", read(f"{written}/etc/kept"))
        expect_same((os.path.isdir(f"{written}/made"), os.path.exists(f"{written}/lib")), (True, False))

    def this_machine_is_a_root(self):
        guest = self.run("/", ["/bin/sh", "-c", "pwd; uname -r; modprobe loop && grep -c ^loop /proc/modules"],
                         directory=self.work)
        expect_same(guest.process.returncode, 0)
        expect_match(rf"^{re.escape(os.path.realpath(self.work))}\n{re.escape(self.name)}\..*\n1$", guest.console)

    def a_signal_is_told(self):
        guest = self.run(self.disk, "kill -9 $$")
        expect_same(guest.process.returncode, 137)
        expect_match(r"^inox: the command was ended by signal 9 \(Killed\)", guest.console)

    def a_missing_command_is_127(self):
        guest = self.run(self.disk, ["/bin/none"])
        expect_same(guest.process.returncode, 127)
        expect_match(r"^inox: cannot run '/bin/none': No such file", guest.console)

    def what_it_writes_stays_with_root_rw(self):
        shutil.copy(self.disk, f"{self.work}/written")
        guest = self.run(f"{self.work}/written", "echo by $(uname -r) >/etc/kept", "--root-rw")
        expect_same(guest.process.returncode, 0)
        expect_match(r"^by 6\.", lab.output("debugfs", "-R", "cat /etc/kept", f"{self.work}/written"))
        lab.output("e2fsck", "-fn", f"{self.work}/written")

    def an_archive_is_a_root(self):
        guest = self.run(f"{self.work}/root.tar.gz", "stat -c '%u %g %h %n' /etc/owned /etc/second; cat /etc/second; "
                         "echo x >/etc/kept; cat /etc/second; pwd")
        expect_same(guest.process.returncode, 0)
        expect_same(guest.console, "7 8 1 /etc/owned\n0 0 2 /etc/second\nas it was\nx\n/\n")

    def a_taint_is_found(self):
        script = "echo '<4>WARNING: not the kernel' >/dev/kmsg; echo 512 >/proc/sys/kernel/tainted"
        guest = self.run(self.disk, script, "--fail-on", "kernel")
        expect_same(guest.process.returncode, 145)
        expect_match(r"^inox: kernel: 0 warnings, 0 oopses, tainted 512$", guest.console)
        expect_match(r"is a failure \(tainted\)", guest.errors())

    def a_root_without_its_driver_is_told(self):
        empty = f"{self.work}/modules.none"
        os.makedirs(empty, exist_ok=True)
        lab.write(f"{empty}/modules.dep", "")
        guest = self.run(self.disk, ["sh"], "--modules", empty)
        expect_same(guest.process.returncode, 147)
        expect_match(r"the guest cannot use its root: the root's disk does not appear: .*virtio_blk.*/modules.none"
                     r".*\[guest_root\]", guest.errors())

    def a_shell_has_job_control(self):
        guest = Guest(*self.start, "--root", self.disk, "--cmdline", CMDLINE, size=(33, 99))
        guest.wait_for("# ", 300)
        guest.type("sh -c 'echo started now; sleep 1000'")
        guest.wait_for("started now\n", 60)
        guest.type("\x03", end="")
        guest.type("echo $? here; stty size; exit 3")
        guest.wait_for("130 here", 60)
        guest.finish(60)
        expect_same(guest.process.returncode, 3)


    def more_commands_run_by_vsock(self):
        lab.remove("/tmp/root.vsock", "/tmp/root.sock")
        guest = Guest(*self.start, "--root", self.disk, "--cmdline", CMDLINE, "--vsock", "cid=3,uds=/tmp/root.vsock",
                      "--api-sock", "/tmp/root.sock", "--id", "rooted", "--", "sh", "-c", "echo up; read line; exit 4")
        guest.wait_for("up", 300)
        command = [guest.process.args[0], "exec", "-s", "/tmp/root.sock", "--env", "A=b", "--directory", "/work", "--"]

        def run(script, text=b""):
            return subprocess.run([*command, "sh", "-c", script], input=text, capture_output=True, timeout=200)

        done = run("cat; pwd; echo $A >&2; exit 9", b"x" * 300000)
        expect_same((done.returncode, done.stderr), (9, b"b\n"))
        expect_same(done.stdout, b"x" * 300000 + b"/work\n")
        expect_same(run("kill -15 $$").returncode, 143)
        by_id = [command[0], "exec", "rooted", "--", "sh", "-c", "exit 8"]
        done = subprocess.run(by_id, capture_output=True, timeout=200)
        expect_same((done.returncode, done.stderr), (8, b""))
        expect_same(subprocess.run([*command, "none"], capture_output=True, timeout=200).returncode, 127)
        script = "trap 'echo got; exit 5' TERM; echo ready; while :; do sleep 1; done"
        sleeper = subprocess.Popen([*command, "sh", "-c", script],
                                   stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
        expect_same(sleeper.stdout.readline(), b"ready\n")
        sleeper.terminate()
        expect_same((sleeper.wait(100), sleeper.stdout.read()), (5, b"got\n"))
        terminal = Guest(*command, "sh", "-c", "tty; stty size; exit 6", size=(21, 77))
        expect_same(terminal.finish(100), 6)
        expect_same(terminal.console, "/dev/pts/0\n21 77\n")
        guest.type("done")
        expect_same(guest.finish(100), 4)


lab.main(outside, inside)
