// SPDX-License-Identifier: Apache-2.0
#include "vmm/jail/room.hpp"

#include <algorithm>
#include <cerrno>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "vmm/jail/exec.hpp"
#include "vmm/jail/folders.hpp"
#include "vmm/jail/namespaces.hpp"
#include "vmm/jail/words.hpp"

namespace inox::jail {
namespace {

/// Where the new root is mounted for the moment before it becomes /: a folder that every system has.
constexpr const char* landing = "/proc";
constexpr const char* root_options = "mode=0755,size=4m";

Result<void> make_device_node(const DeviceFile& device, Owner owner) {
    const auto slash = device.path.rfind('/');
    const auto folder = TRY(make_folders(AT_FDCWD, device.path.substr(0, slash)));
    const auto name = device.path.substr(slash + 1);
    if (::mknodat(folder.get(), name.c_str(), device.kind | 0600, device.number) != 0)
        return errno == EEXIST ? Result<void>{} : fail_os("Failed to create " + device.path + " inside the jail");
    if (::fchownat(folder.get(), name.c_str(), owner.uid, owner.gid, AT_SYMLINK_NOFOLLOW) != 0)
        return fail_os("Failed to change owner for " + device.path);
    return {};
}

std::vector<DeviceFile> present(std::vector<std::string> paths) {
    for (const char* usual : {"/dev/null", "/dev/zero", "/dev/random", "/dev/urandom"})
        paths.emplace_back(usual);
    std::ranges::sort(paths);
    const auto again = std::ranges::unique(paths);
    paths.erase(again.begin(), again.end());
    std::vector<DeviceFile> out;
    for (const auto& path : paths)
        if (auto found = look_at({path}))
            out.push_back(found->front());
    return out;
}

/// Only processes of this PID namespace; a kernel before Linux 5.8 shows more of the system.
/// In the current directory, while the host's /proc can be seen: a user namespace may not mount one otherwise.
void mount_proc() {
    constexpr unsigned long flags = MS_NOSUID | MS_NODEV | MS_NOEXEC;
    if (::mkdir("proc", 0555) != 0 ||
        (::mount("proc", "proc", "proc", flags, "subset=pid") != 0 && ::mount("proc", "proc", "proc", flags, "") != 0))
        ::rmdir("proc"); // inox runs without; those whom it starts do not
}

Result<void> make_usual() {
    if (::mkdir("/tmp", 0700) == 0 && ::chmod("/tmp", 01777) != 0)
        return fail_os("Failed to create /tmp inside the jail");
    static constexpr std::pair<const char*, const char*> links[] = {{"/proc/self/fd", "/dev/fd"},
                                                                    {"/proc/self/fd/0", "/dev/stdin"},
                                                                    {"/proc/self/fd/1", "/dev/stdout"},
                                                                    {"/proc/self/fd/2", "/dev/stderr"}};
    for (const auto& [target, link] : links)
        if (::symlink(target, link) != 0 && errno != EEXIST)
            return fail_os(std::string{"Failed to create "} + link + " inside the jail");
    return {};
}

} // namespace

Result<void> enter_room(const Options& options, const Needs& needs, const std::string& program,
                        const std::string& folder) {
    TRY_VOID(leave_mounts());
    (void)!::sethostname(options.id.c_str(), options.id.size()); // a name is for people only
    auto binds = needs.binds;
    for (const auto& text : options.binds)
        binds.push_back(parse_bind(text));
    auto devices = present(needs.devices);
    std::ranges::move(TRY(look_at(options.devices)), std::back_inserter(devices));
    const bool makes_devices = ::geteuid() == 0; // others show those of the host as they are
    if (!makes_devices)
        for (const auto& device : devices)
            binds.push_back({device.path, true});
    const auto opened = TRY(Binds::open(binds));
    auto own = TRY(Binds::open(std::vector{Bind{program, false}}));
    if (::mount("tmpfs", landing, "tmpfs", MS_NOSUID, root_options) != 0 || ::chdir(landing) != 0)
        return fail_os("Failed to mount the jail root");
    mount_proc();
    TRY_VOID(pivot_here());
    TRY_VOID(opened.put());
    TRY_VOID(own.put_at(program_path));
    if (makes_devices)
        for (const auto& device : devices)
            TRY_VOID(make_device_node(device, {options.uid, options.gid}));
    TRY_VOID(make_usual());
    TRY_VOID(make_folders(AT_FDCWD, folder));
    if (::chdir(folder.c_str()) != 0)
        return fail_os("Failed to change current directory");
    return {};
}

} // namespace inox::jail
