// SPDX-License-Identifier: Apache-2.0
// What a guest that took over a thread might try, in each kind of thread, with the lists of the program.
#include <array>
#include <cerrno>
#include <cstdint>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/futex.h>
#include <linux/prctl.h>
#include <sched.h>
#include <string>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "tests/catch.hpp"
#include "tests/unit/vmm/confine/child.hpp"

namespace inox::attacks_test {

using namespace confine;

namespace {

struct Attack {
    const char* what;
    long number;
    std::array<long, 6> arguments{};
    bool of_start{false}; ///< a start does it, and so does a template, whose process has no guest
};

constexpr long page = 4096;

std::vector<Attack> attacks() {
    static char nothing[4096];
    static char path[] = "/tmp/inox-attack";
    const long null = 0;
    const long text = reinterpret_cast<long>(path);
    const long room = reinterpret_cast<long>(nothing);
    return {
        {"execve", SYS_execve, {text, null, null}},
        {"execveat", SYS_execveat, {AT_FDCWD, text, null, null, 0}},
        {"fork", SYS_fork},
        {"vfork-like clone", SYS_clone, {SIGCHLD}},
        {"clone into new namespaces", SYS_clone, {CLONE_NEWUSER | CLONE_NEWNS | SIGCHLD}},
        {"clone of a thread in a new user namespace", SYS_clone, {0x3d0f00 | CLONE_NEWUSER}},
        {"unshare", SYS_unshare, {CLONE_NEWUSER}},
        {"setns", SYS_setns, {0, 0}},
        {"ptrace", SYS_ptrace, {0 /* TRACEME */, 0, 0, 0}},
        {"process_vm_readv", SYS_process_vm_readv, {1, room, 1, room, 1, 0}},
        {"process_vm_writev", SYS_process_vm_writev, {1, room, 1, room, 1, 0}},
        {"pidfd_open", SYS_pidfd_open, {1, 0}},
        {"pidfd_getfd", SYS_pidfd_getfd, {0, 0, 0}},
        {"kcmp", SYS_kcmp, {1, 1, 0, 0, 0}},
        {"kill of the parent", SYS_kill, {::getpid(), 0}},
        {"tgkill of the parent", SYS_tgkill, {::getpid(), ::getpid(), 0}, true},
        {"tkill", SYS_tkill, {1, 0}},
        {"socket of IPv4 streams", SYS_socket, {AF_INET, SOCK_STREAM, 0}},
        {"socket of IPv6", SYS_socket, {AF_INET6, SOCK_DGRAM, 0}},
        {"socket of netlink", SYS_socket, {AF_NETLINK, SOCK_RAW, 0}},
        {"socket of packets", SYS_socket, {AF_PACKET, SOCK_RAW, 0}},
        {"socket of vsock", SYS_socket, {AF_VSOCK, SOCK_STREAM, 0}},
        {"socket of the crypto API", SYS_socket, {AF_ALG, SOCK_SEQPACKET, 0}},
        {"mount", SYS_mount, {text, text, text, 0, 0}},
        {"umount2", SYS_umount2, {text, 0}},
        {"open_tree", SYS_open_tree, {AT_FDCWD, text, 0}},
        {"fsopen", SYS_fsopen, {text, 0}},
        {"chroot", SYS_chroot, {text}},
        {"pivot_root", SYS_pivot_root, {text, text}},
        {"swapon", SYS_swapon, {text, 0}},
        {"swapoff", SYS_swapoff, {text}},
        {"reboot", SYS_reboot, {0}},
        {"kexec_load", SYS_kexec_load, {0, 0, 0, 0}},
        {"kexec_file_load", SYS_kexec_file_load, {0, 0, 0, 0, 0}},
        {"init_module", SYS_init_module, {room, 1, text}},
        {"finit_module", SYS_finit_module, {0, text, 0}},
        {"delete_module", SYS_delete_module, {text, 0}},
        {"bpf", SYS_bpf, {0, room, 64}},
        {"perf_event_open", SYS_perf_event_open, {room, 0, -1, -1, 0}},
        {"userfaultfd", SYS_userfaultfd, {0}},
        {"keyctl", SYS_keyctl, {0, 0, 0, 0, 0}},
        {"add_key", SYS_add_key, {text, text, room, 1, -2}},
        {"request_key", SYS_request_key, {text, text, 0, 0}},
        {"memory to write and execute",
         SYS_mmap,
         {0, page, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0}},
        {"memory to execute", SYS_mmap, {0, page, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0}},
        {"memory made executable", SYS_mprotect, {room & -page, page, PROT_READ | PROT_EXEC}},
        {"memory made executable with a key", SYS_pkey_mprotect, {room & -page, page, PROT_READ | PROT_EXEC, -1}},
        {"memory of another personality", SYS_personality, {0x0400000 /* READ_IMPLIES_EXEC */}},
        {"remap_file_pages", SYS_remap_file_pages, {room & -page, page, 0, 0, 0}},
        {"a command for the terminal", SYS_ioctl, {0, TIOCSTI, room}},
        {"an unknown ioctl", SYS_ioctl, {0, 0x12345678, room}},
        {"an ioctl of a block device", SYS_ioctl, {0, 0x1264 /* BLKRASET's neighbour */, 0}},
        {"prctl: a new dumpability", SYS_prctl, {PR_SET_DUMPABLE, 1, 0, 0, 0}, true},
        {"prctl: another ptracer", SYS_prctl, {PR_SET_PTRACER, -1, 0, 0, 0}},
        {"prctl: a bounding set", SYS_prctl, {PR_CAPBSET_DROP, 0, 0, 0, 0}},
        {"arch_prctl", SYS_arch_prctl, {0x1002, 0}},
        {"setuid", SYS_setuid, {0}},
        {"setresuid", SYS_setresuid, {0, 0, 0}},
        {"setgid", SYS_setgid, {0}},
        {"setgroups", SYS_setgroups, {0, 0}},
        {"setrlimit", SYS_setrlimit, {0, room}},
        {"prlimit64 of another process", SYS_prlimit64, {1, 0, 0, room}},
        {"a limit by prlimit64", SYS_prlimit64, {0, 0, room, 0}},
        {"open_by_handle_at", SYS_open_by_handle_at, {AT_FDCWD, room, 0}},
        {"name_to_handle_at", SYS_name_to_handle_at, {AT_FDCWD, text, room, room, 0}},
        {"openat2", SYS_openat2, {AT_FDCWD, text, room, 24}},
        {"creat", SYS_creat, {text, 0600}},
        {"a file to write", SYS_open, {text, O_WRONLY | O_CREAT, 0600}},
        {"unlink", SYS_unlinkat, {AT_FDCWD, text, 0}},
        {"rename of old", SYS_rename, {text, text}},
        {"truncate", SYS_truncate, {text, 0}},
        {"bind", SYS_bind, {0, room, 2}, true},
        {"connect", SYS_connect, {0, room, 2}, true},
        {"fanotify_init", SYS_fanotify_init, {0, 0}},
        {"inotify_init1", SYS_inotify_init1, {0}},
        {"mknod", SYS_mknodat, {AT_FDCWD, text, S_IFCHR | 0600, 0x101}},
        {"symlink", SYS_symlinkat, {text, AT_FDCWD, text}},
        {"link", SYS_linkat, {AT_FDCWD, text, AT_FDCWD, text, 0}},
        {"mkdir", SYS_mkdirat, {AT_FDCWD, text, 0700}},
        {"rename", SYS_renameat2, {AT_FDCWD, text, AT_FDCWD, text, 0}},
        {"chmod", SYS_fchmodat, {AT_FDCWD, text, 0777}},
        {"chown", SYS_fchownat, {AT_FDCWD, text, 0, 0, 0}, true},
        {"setxattr", SYS_setxattr, {text, text, room, 1, 0}},
        {"acct", SYS_acct, {text}},
        {"syslog", SYS_syslog, {3, room, 1}},
        {"quotactl", SYS_quotactl, {0, 0, 0, 0}},
        {"iopl", SYS_iopl, {3}},
        {"ioperm", SYS_ioperm, {0x70, 2, 1}},
        {"modify_ldt", SYS_modify_ldt, {0, room, 1}},
        {"settimeofday", SYS_settimeofday, {room, 0}},
        {"clock_settime", SYS_clock_settime, {0, room}},
        {"sethostname", SYS_sethostname, {text, 1}},
        {"vhangup", SYS_vhangup},
        {"migrate_pages", SYS_migrate_pages, {1, 0, 0, 0}},
        {"sched_setscheduler", SYS_sched_setscheduler, {1, 0, room}},
        {"setpriority", SYS_setpriority, {0, 1, 0}},
        {"a handler for what is refused", SYS_rt_sigaction, {SIGSYS, room, 0, 8}},
        {"futex with priorities", SYS_futex, {room, FUTEX_LOCK_PI, 0, 0, 0, 0}},
    };
}

void attempt(const Attack& one) {
    const auto& at = one.arguments;
    ::syscall(one.number, at[0], at[1], at[2], at[3], at[4], at[5]); // NOLINT(*-vararg)
}

bool is_refused(int status) { return WIFEXITED(status) && WEXITSTATUS(status) == refusal_code; }

} // namespace

TEST_CASE("no kind of thread gets through with what a hostile guest would try") {
    const auto all = attacks();
    REQUIRE(all.size() >= 25);
    for (std::size_t kind = 0; kind < static_cast<std::size_t>(ThreadKind::start); ++kind)
        for (const auto& attack : all) {
            if (attack.of_start && static_cast<ThreadKind>(kind) == ThreadKind::cloner)
                continue;
            INFO(name_of(static_cast<ThreadKind>(kind)) << ": " << attack.what);
            CHECK(is_refused(in_child(static_cast<ThreadKind>(kind), all_features, [&] { attempt(attack); })));
        }
}

TEST_CASE("threads without business at the host's files and programs get at none") {
    static char path[] = "/etc/passwd";
    const long text = reinterpret_cast<long>(path);
    static char room[256];
    const Attack more[] = {
        {"socket", SYS_socket, {AF_UNIX, SOCK_STREAM, 0}},
        {"io_uring_setup", SYS_io_uring_setup, {8, reinterpret_cast<long>(room)}},
        {"memfd_create", SYS_memfd_create, {text, 0}},
        {"capset", SYS_capset, {reinterpret_cast<long>(room), reinterpret_cast<long>(room)}},
        {"a thread", SYS_clone, {0x3d0f00, 0, 0, 0, 0}},
        {"sendto an address", SYS_sendto, {0, reinterpret_cast<long>(room), 1, 0, reinterpret_cast<long>(room), 16}},
        {"KVM_CREATE_VM", SYS_ioctl, {0, 0xae01, 0}},
    };
    for (const auto kind : {ThreadKind::vcpu, ThreadKind::engine, ThreadKind::disk, ThreadKind::iommu,
                            ThreadKind::watchdog, ThreadKind::dump, ThreadKind::snapshot})
        for (const auto& attack : more) {
            INFO(name_of(kind) << ": " << attack.what);
            CHECK(is_refused(in_child(kind, all_features, [&] { attempt(attack); })));
        }
    // A file is no violation (malloc looks for one), but it stays closed.
    for (const auto kind : {ThreadKind::vcpu, ThreadKind::engine, ThreadKind::disk, ThreadKind::api}) {
        const int status = in_child(kind, all_features, [] {
            ::_exit(::open(path, O_RDONLY | O_CLOEXEC) < 0 && errno == EACCES ? 20 : 21); // NOLINT(*-vararg)
        });
        CHECK(WEXITSTATUS(status) == 20);
    }
}

TEST_CASE("the numbers of another kind of program end the process at once") {
    constexpr long x32_getpid = 0x40000000 | SYS_getpid;
    for (const auto kind : {ThreadKind::vcpu, ThreadKind::loop}) {
        const int status = in_child(kind, all_features, [] { ::syscall(x32_getpid); }); // NOLINT(*-vararg)
        CHECK(((WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS) || is_refused(status)));
    }
}

} // namespace inox::attacks_test
