# SPDX-License-Identifier: Apache-2.0
"""What the lab's tests share. A test is one script with two halves: `outside` prepares files and enters the lab machine
(tools/lab), `inside` runs there. A check is a function: its name says what it proves; it raises Failed with what it saw
instead. Every wait has an end and says what it waited for; the limits are wide, for a busy machine is no failure.
Nothing but the standard library: a test is one process.
"""
import atexit, base64, http.client, json, os, pathlib, pty, re, select, shutil, signal, socket, struct, subprocess, sys
import fcntl, tempfile, termios, time, traceback

ROOT = pathlib.Path(__file__).resolve().parents[2]
SKIPPED = 77
AGAIN = 198     # the status of an inside that the lab itself has spoilt
# What Linux says when a timer of its own did not ring for 20 seconds. KVM keeps those timers, not the VMM.
LOST_TIMER = "Possible timer handling issue on cpu="
# For Guest.complaints(): what no guest says that was saved, cloned or moved, and a line that is of its boot
AFTER_A_RESTORE = ("BUG|WARNING|Oops|Call Trace|stall|lockup|hung task|unstable|I/O error|Buffer I/O|timeout",
                   "Speculative Return Stack Overflow")
# In a guest: its vmclock device, how often its clocks have jumped, and how often it was restored
VM_CLOCK = "ls /sys/bus/acpi/devices | grep AMZNC10C; echo $(devmem 0xee010 64) $(devmem 0xee068 64)"
passed, failures = [], []


class Failed(Exception):
    """A check saw something else: what."""


class Skip(Exception):
    """The test cannot run here: why."""


# --- the test and its checks ---


def main(outside, inside):
    """outside(inox), with the program's path; inside(**facts), with what `enter` was given."""
    sys.stdout.reconfigure(line_buffering=True)
    os.environ["PATH"] = os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        if sys.argv[1:2] == ["--inside"]:
            inside(**json.loads(sys.argv[2]))
            expect(passed or failures, "nothing was checked")
        else:
            outside(*(os.path.realpath(word) for word in sys.argv[1:]))
    except Skip as reason:
        print(f"SKIP {reason}")
        sys.exit(SKIPPED)
    except Failed as seen:
        fail("", str(seen))
    sys.exit(1 if failures else 0)


def enter(*options, **facts):
    """This test's inside, in a lab machine with these options of tools/lab; once more where the lab has spoilt it."""
    command = [sys.executable, os.path.realpath(sys.argv[0]), "--inside", json.dumps(facts)]
    for _ in range(2):
        status = subprocess.run([ROOT / "tools/lab", *options, "--", *command], stdin=subprocess.DEVNULL).returncode
        if status != AGAIN:
            break
    if status == 126:
        raise Skip("the lab machine cannot start here")
    if status == SKIPPED:
        sys.exit(SKIPPED)
    if status:
        fail("", f"the lab ended with status {status}")


def check(about, function, *arguments):
    """Runs one check and prints its line; whether it passed."""
    begin = time.monotonic()
    text = " ".join([function.__name__.replace("_", " "), *(str(a) for a in arguments if isinstance(a, (str, int)))])
    text = f"{about}: {text}" if about else text
    try:
        function(*arguments)
    except (Failed, OSError, subprocess.SubprocessError, http.client.HTTPException) as seen:
        return fail(text, str(seen))
    except Exception:
        return fail(text, traceback.format_exc())
    passed.append(text)
    print(f"PASS {text} ({time.monotonic() - begin:.1f} s)")
    return True


def checks(about, *functions):
    """All of them, in order; whether all passed."""
    return all([check(about, function) for function in functions])


def check_said(about, text, wanted):
    """A check for each key of `wanted`: that a guest said this value of it, "" for nothing."""
    for key, value in wanted.items():
        def says(*_):
            expect(said(text, key) == value, f"{said(text, key)!r}, not {value!r}; the last lines are {tail(text, 12)}")

        check(about, says, key, value.replace("\n", ", ") or "nothing")


def fail(text, seen):
    """Prints that a check failed, and the last words of the guests that run or have run last."""
    failures.append(text)
    print(f"FAIL {text}: {seen}" if text else f"FAIL {seen}")
    for guest in Guest.started:
        if guest.process.poll() is None or guest is Guest.started[-1]:
            for line in tail(guest.console, 15) + tail(guest.errors(), 15):
                print("  |", line)
            if LOST_TIMER in guest.console and os.environ.get("INOX_LAB"):
                note("the lab lost a timer's interrupt of this guest (docs/lab.md): the test starts once more")
                sys.exit(AGAIN)
    return False


def note(text):
    print("NOTE", text)


def tail(text, lines):
    return text.splitlines()[-lines:]


# --- what checks say ---


def expect(condition, seen):
    if not condition:
        raise Failed(seen)


def expect_same(seen, wanted):
    expect(seen == wanted, f"{seen!r}, not {wanted!r}")


def expect_match(pattern, text):
    """A line of the text matches."""
    expect(re.search(pattern, text, re.M), f"no '{pattern}' in the text that ends in {tail(text, 8)}")


def expect_no_leak(before, after):
    """Of Guest.holdings(); memory may still grow by what allocators do."""
    expect(after[0] == before[0] and after[1] <= before[1] and after[2] <= before[2] + 256,
           f"before {before}, after {after}")


def wait_until(what, seconds, condition, pause=0.1):
    """The first true answer of `condition`."""
    limit = time.monotonic() + seconds
    while not (answer := condition()):
        expect(time.monotonic() < limit, f"waited {seconds} s until {what}")
        time.sleep(pause)
    return answer


# --- files and programs ---


def read(path):
    """A text file without carriage returns; nothing when there is none."""
    try:
        return pathlib.Path(path).read_text(errors="replace").replace("\r", "")
    except FileNotFoundError:
        return ""


def write(path, text):
    pathlib.Path(path).write_text(text)


def remove(*paths):
    for path in paths:
        pathlib.Path(path).unlink(missing_ok=True)


def random_file(path, size):
    with open(path, "wb") as file:
        while size:
            size -= file.write(os.urandom(min(size, 1 << 20)))
    return str(path)


def sha256(path):
    return output("sha256sum", path).split()[0]


def work_directory(name):
    """A directory in /tmp that goes away with this process."""
    path = pathlib.Path(tempfile.mkdtemp(prefix=f"inox-{name}.", dir="/tmp"))
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    return path


def run(*command, seconds=200, stdin=subprocess.DEVNULL, **options):
    """A command's end: its status as `returncode`, its output of both kinds as `stdout`."""
    return subprocess.run(command, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, errors="replace", timeout=seconds, **options)


def output(*command, **options):
    """What a command that succeeds prints."""
    done = run(*command, **options)
    expect(done.returncode == 0, f"{command} ended with status {done.returncode}: {done.stdout}")
    return done.stdout


def descendant(pid, name):
    """Of this process: the first one whose name begins so."""
    pids = [pid]
    for one in pids:
        if read(f"/proc/{one}/comm").startswith(name):
            return one
        pids += map(int, run("pgrep", "-P", str(one)).stdout.split())
    raise Failed(f"process {pid} has no {name}")


def dev(*words):
    """The path that tools/dev prints."""
    done = subprocess.run([ROOT / "tools/dev", *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise Skip(f"'tools/dev {' '.join(words)}' has no result here")
    return done.stdout.strip()


def compiled(path, source, *flags):
    """A static program, from the C or assembler file of that name."""
    output("gcc", "-static", "-O2", *flags, "-o", path, ROOT / source)
    return str(path)


# For guests without an operating system
BARE = ("-ffreestanding -fno-pie -mno-red-zone -mgeneral-regs-only -fno-stack-protector -fcf-protection=none -O1"
        " -nostdlib -no-pie -Wl,-Ttext-segment=0x100000,--build-id=none,-z,noexecstack").split()


def own_network():
    """A network of this process's own, with loopback."""
    import ctypes
    if os.geteuid() != 0:
        raise Skip("root is needed, for a TAP in a network of its own")
    expect(ctypes.CDLL(None).unshare(0x40000000) == 0, "no network namespace can be made")
    output("ip", "link", "set", "lo", "up")


def make_tap(name, address=None, *options):
    output("ip", "tuntap", "add", "dev", name, "mode", "tap", *options)
    if address:
        output("ip", "address", "add", address, "dev", name)
    output("ip", "link", "set", name, "up")


def pci_devices(ids):
    """The addresses of the devices VENDOR:DEVICE, in order."""
    vendor, device = ids.split(":")
    return [path.name for path in sorted(pathlib.Path("/sys/bus/pci/devices").iterdir())
            if read(path / "vendor").strip() == f"0x{vendor}" and read(path / "device").strip() == f"0x{device}"]


def bind(address):
    """Gives a device to vfio-pci."""
    path = pathlib.Path("/sys/bus/pci/devices", address)
    write(path / "driver_override", "vfio-pci")
    if (path / "driver").exists():
        write(path / "driver/unbind", address)
    write("/sys/bus/pci/drivers_probe", address)
    return address


def backends():
    """Of the kernel's two VFIO interfaces, those it has."""
    return ["container", "iommufd"] if os.path.exists("/dev/iommu") else ["container"]


# --- guests ---


def shell_words(line, out=""):
    """Words of the kernel command line: the small guest runs these lines, whose output goes to this terminal."""
    lines = "\n".join(part.strip() for part in line.strip().splitlines())
    return f"{f'inox.out={out} ' if out else ''}inox.sh={base64.b64encode(lines.encode()).decode()}"


def said(text, key):
    """Of a guest's lines "KEY VALUE" the values of this key."""
    return "\n".join(line[len(key) + 1:] for line in text.splitlines() if line.startswith(key + " "))


class Guest:
    """A VMM as a process, and the serial console of its guest: pipes, or a terminal of `size` (rows, columns)."""

    started = []

    def __init__(self, *command, size=None):
        self.console = ""   # all that was said
        self.place = 0      # what was waited for ends here
        self.error_file = os.memfd_create("stderr")
        if size:
            self.terminal, inner = pty.openpty()
            self.resize(*size)
            self.process = subprocess.Popen(command, stderr=self.error_file, stdin=inner, stdout=inner,
                                            start_new_session=True,
                                            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
            os.close(inner)
            self.ear, self.mouth = self.terminal, self.terminal
        else:
            self.process = subprocess.Popen(command, stderr=self.error_file, stdin=subprocess.PIPE,
                                            stdout=subprocess.PIPE)
            self.ear, self.mouth = self.process.stdout.fileno(), self.process.stdin.fileno()
        self.pid = self.process.pid
        Guest.started.append(self)

    def errors(self):
        """What the VMM has said on its standard error."""
        return os.pread(self.error_file, 1 << 24, 0).decode(errors="replace").replace("\r", "")

    def resize(self, rows, columns):
        fcntl.ioctl(self.terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def hear(self, seconds):
        """Takes what is said within that time: whether something was, None in silence, False at the end of it all."""
        if not select.select([self.ear], [], [], max(0, seconds))[0]:
            return None
        try:
            piece = os.read(self.ear, 1 << 16)
        except OSError:     # a terminal that nobody has open
            piece = b""
        self.console += piece.decode(errors="replace").replace("\r", "")
        return bool(piece)

    def wait_for(self, text, seconds):
        """Until the guest says this; what came before it."""
        limit = time.monotonic() + seconds
        while (found := self.console.find(text, self.place)) < 0:
            left = limit - time.monotonic()
            expect(left > 0, f"'{text}' was not said within {seconds} s")
            expect(self.hear(left) is not False, f"the VMM ended before '{text}' was said")
        before = self.console[self.place:found]
        self.place = found + len(text)
        return before

    def type(self, line, end="\n"):
        os.write(self.mouth, (line + end).encode())

    def type_last(self, line=None):
        """Types, and closes the standard input."""
        if line is not None:
            self.type(line)
        self.process.stdin.close()

    def enter_shell(self, seconds=300):
        """From the start of the small guest to a shell that neither prompts nor echoes."""
        self.wait_for("a shell in the guest", seconds)
        self.wait_for("# ", 200)
        self.quiet_shell()

    def log_in(self, seconds):
        """From the start of a Debian guest to such a shell."""
        self.wait_for("login: ", seconds)
        self.type("root")
        self.wait_for("Password: ", 200)
        self.type("inox")
        self.wait_for("# ", 200)
        self.quiet_shell()

    def quiet_shell(self):
        self.type("stty -echo; dmesg -n 1; exec env PS1= PS2= TERM=dumb sh")
        expect("a quiet shell" in self.ask("echo a quiet shell", 120), "the shell is not quiet")

    def ask(self, line, seconds=200):
        """What a shell line prints in the guest, where it must succeed."""
        self.type(f"{{ {line}\n}} </dev/null; printf '<%s:%d>' status $?")
        # busybox asks for the cursor's place before each line
        text = self.wait_for("<status:", seconds).replace("\x1b[6n", "").rstrip("\n")
        status = self.wait_for(">", 200)
        expect(status == "0", f"'{line}' ended with status {status}: {text}")
        return text

    def says(self, wanted, line, seconds=200):
        seen = self.ask(line, seconds)
        expect(seen == wanted, f"'{line}' printed '{seen}', not '{wanted}'")

    def complaints(self, pattern, but=""):
        """Fails when the kernel's log has a line of this pattern, without those of the other."""
        ignore = f" | grep -vE '{but}'" if but else ""
        self.says("", f"dmesg -r | grep -E '{pattern}'{ignore} || true")

    def finish(self, seconds):
        """The VMM's status, as a shell has it, once it has ended."""
        limit = time.monotonic() + seconds
        while self.process.poll() is None and time.monotonic() < limit:
            if self.hear(min(1, limit - time.monotonic())) is False:
                try:
                    self.process.wait(max(0, limit - time.monotonic()))
                except subprocess.TimeoutExpired:
                    pass
        if self.process.poll() is None:
            self.stop()
            raise Failed(f"the VMM did not end within {seconds} s")
        while self.hear(0):
            pass
        status = self.process.returncode
        return status if status >= 0 else 128 - status

    def stop(self):
        """Ends the VMM."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                print(f"the VMM {self.process.args[:2]} did not end within 30 s of SIGTERM")
                self.kill()
        while self.hear(0):
            pass

    def kill(self):
        self.process.kill()
        self.process.wait(60)

    def beside_ram(self, ram, kind):
        """KiB that are resident ("Rss") or "Anonymous", without the mapping of guest RAM, which is known by its size in
        MiB: its name needs a kernel with CONFIG_ANON_VMA_NAME."""
        maps = re.findall(rf"^Size: +(\d+) kB$.*?^{kind}: +(\d+) kB$", read(f"/proc/{self.pid}/smaps"), re.M | re.S)
        own = [int(kib) for size, kib in maps if int(size) != ram << 10]
        expect(len(own) < len(maps), f"no mapping has {ram} MiB")
        return sum(own)

    def holdings(self, ram):
        """Open descriptors and mappings of the VMM, and KiB of its anonymous memory."""
        return [len(os.listdir(f"/proc/{self.pid}/fd")), len(read(f"/proc/{self.pid}/maps").splitlines()),
                self.beside_ram(ram, "Anonymous")]


@atexit.register
def stop_all():
    for guest in Guest.started:
        guest.stop()


class Api:
    """The control API at a socket."""

    def __init__(self, path):
        self.path = path

    def open(self, method, path, body=None):
        """The answer to a request, before its body is read."""
        connection = http.client.HTTPConnection("localhost")
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(60)
        connection.sock.connect(self.path)
        connection.request(method, path, None if body is None else json.dumps(body))
        return connection.getresponse()

    def ask(self, method, path, body=None, status=204):
        """The answer's body; its status must be this."""
        answer = self.open(method, path, body)
        text = answer.read().decode(errors="replace")
        expect(answer.status == status, f"{method} {path} answered {answer.status}: {text}")
        return text

    def listed(self, device):
        return self.open("GET", f"/inox/devices/{device}").status == 200

    def gone(self, *devices):
        """Waits until these devices are."""
        for device in devices:
            wait_until(f"{device} is gone", 200, lambda: not self.listed(device))
