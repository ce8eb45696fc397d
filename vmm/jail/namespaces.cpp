// SPDX-License-Identifier: Apache-2.0
#include "vmm/jail/namespaces.hpp"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <grp.h>
#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "vmm/jail/words.hpp"

namespace inox::jail {
namespace {

Result<void> raise_loopback() {
    const UniqueFd socket{::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)};
    ifreq request{};
    std::strncpy(request.ifr_name, "lo", sizeof request.ifr_name - 1);
    request.ifr_flags = IFF_UP | IFF_RUNNING; // NOLINT(cppcoreguidelines-pro-type-union-access)
    if (!socket || ::ioctl(socket.get(), SIOCSIFFLAGS, &request) != 0)
        return fail_os("Failed to raise the loopback interface");
    return {};
}

Result<void> write_map(int proc, const char* file, const std::string& text) {
    const UniqueFd map{::openat(proc, file, O_WRONLY | O_CLOEXEC)}; // NOLINT(*-vararg)
    if (!map || ::write(map.get(), text.data(), text.size()) < 0)
        return fail_os(std::string{"Failed to write to /proc/"} + file);
    return {};
}

} // namespace

Result<void> enter_network(const std::string& netns) {
    if (netns.empty())
        return {};
    if (netns == "new") {
        if (::unshare(CLONE_NEWNET) != 0)
            return fail_os("Failed to make a network namespace");
        return raise_loopback();
    }
    const UniqueFd file{::open(netns.c_str(), O_RDONLY | O_CLOEXEC)}; // NOLINT(*-vararg)
    if (!file)
        return fail_os("Failed to open file " + netns, "ip netns lists those of /run/netns; ip netns add makes one");
    if (::setns(file.get(), CLONE_NEWNET) != 0)
        return fail_os("Failed to join network namespace: netns");
    return {};
}

Result<void> set_limits(std::span<const Limit> limits) {
    for (const auto& [resource, value] : limits) {
        const rlimit limit{value, value};
        if (::setrlimit(static_cast<__rlimit_resource>(resource), &limit) == 0)
            continue;
        const char* name = "memory that is locked or dumped";
        if (resource == RLIMIT_NOFILE)
            name = "number of file descriptors";
        else if (resource == RLIMIT_FSIZE)
            name = "size of file";
        return fail_os(std::string{"Failed to set limit for resource: "} + name);
    }
    return {};
}

Result<void> leave_mounts() {
    if (::unshare(CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS) != 0)
        return fail_os("Failed to unshare into new mount namespace");
    if (::mount(nullptr, "/", nullptr, MS_SLAVE | MS_REC, nullptr) != 0)
        return fail_os("Failed to change the propagation type to slave");
    return {};
}

Result<void> pivot_here() {
    // The old root is mounted over the new one for the moment between the two calls
    if (::syscall(SYS_pivot_root, ".", ".") != 0) // NOLINT(*-vararg)
        return fail_os("Failed to pivot root");
    if (::umount2(".", MNT_DETACH) != 0)
        return fail_os("Failed to unmount the old jail root");
    if (::chdir("/") != 0)
        return fail_os("Failed to change current directory");
    return {};
}

UniqueFd open_proc() { return UniqueFd{::open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC)}; } // NOLINT(*-vararg)

Result<void> enter_user_namespace(int proc, uid_t uid, gid_t gid) {
    if (::unshare(CLONE_NEWUSER) != 0)
        return fail_os("Failed to make a user namespace", "is /proc/sys/user/max_user_namespaces 0 here?");
    ::prctl(PR_SET_DUMPABLE, 1); // else /proc/self would be root's
    TRY_VOID(write_map(proc, "self/setgroups", "deny"));
    TRY_VOID(write_map(proc, "self/gid_map", format("%u %u 1\n", gid, gid)));
    return write_map(proc, "self/uid_map", format("%u %u 1\n", uid, uid));
}

Result<void> drop_privileges(const Options& options, int proc, bool in_user_ns) {
    if (!in_user_ns && (::setgroups(0, nullptr) != 0 || ::setgid(options.gid) != 0 || ::setuid(options.uid) != 0))
        return fail_os("Failed to become user " + std::to_string(options.uid));
    if (options.user_ns && !in_user_ns)
        TRY_VOID(enter_user_namespace(proc, options.uid, options.gid));
    if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return fail_os("Failed to give up new privileges");
    return {};
}

} // namespace inox::jail
