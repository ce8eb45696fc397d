// SPDX-License-Identifier: Apache-2.0
#include "vmm/jail/folders.hpp"

#include <algorithm>
#include <cerrno>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>
#include <vector>

#include "vmm/base/host_files.hpp"
#include "vmm/config/config_text.hpp"
#include "vmm/jail/words.hpp"

namespace inox::jail {
namespace {

std::vector<std::string> parts_of(const std::string& path) {
    std::vector<std::string> out;
    for (std::size_t start = 0; start < path.size();) {
        const auto end = std::min(path.find('/', start), path.size());
        if (end > start)
            out.push_back(path.substr(start, end - start));
        start = end + 1;
    }
    return out;
}

UniqueFd open_folder(int parent, const char* name) {
    return UniqueFd{::openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)}; // NOLINT(*-vararg)
}

} // namespace

Result<UniqueFd> make_folders(int top, const std::string& path, mode_t mode) {
    UniqueFd folder = open_folder(top, ".");
    if (!folder)
        return fail_os("Failed to create directory " + path);
    for (const auto& part : parts_of(path)) {
        if (::mkdirat(folder.get(), part.c_str(), mode) != 0 && errno != EEXIST)
            return fail_os("Failed to create directory " + path);
        folder = open_folder(folder.get(), part.c_str());
        if (!folder)
            return fail_os("Failed to create directory " + path, "does something else have this name?");
    }
    return folder;
}

Result<UniqueFd> make_owned_folders(const std::string& path, Owner owner) {
    UniqueFd folder = open_folder(AT_FDCWD, "/");
    const auto own = [&]() -> Result<void> {
        if (!folder)
            return fail_os("Failed to open " + path);
        if (::fchmod(folder.get(), 0700) != 0)
            return fail_os("Failed to chmod " + path);
        if (::fchown(folder.get(), owner.uid, owner.gid) != 0)
            return fail_os("Failed to change owner for " + path);
        return {};
    };
    TRY_VOID(own());
    for (const auto& part : parts_of(path)) {
        folder = TRY(make_folders(folder.get(), part, 0700));
        TRY_VOID(own());
    }
    return folder;
}

Result<void> make_device(const std::string& path, mode_t kind, dev_t number, Owner owner) {
    const auto slash = path.rfind('/');
    const auto folder = TRY(make_owned_folders(path.substr(0, slash), owner));
    const auto name = path.substr(slash + 1);
    if (::mknodat(folder.get(), name.c_str(), (kind & S_IFMT) | 0600, number) != 0)
        return fail_os("Failed to create " + path + " via mknod inside the jail",
                       errno == EEXIST ? "a jail is used once: remove its folder, or use another id" : "");
    if (::fchownat(folder.get(), name.c_str(), owner.uid, owner.gid, AT_SYMLINK_NOFOLLOW) != 0)
        return fail_os("Failed to change owner for " + path);
    return {};
}

std::optional<unsigned> userfaultfd_minor(const std::string& text) {
    const auto words = host::words(text);
    for (std::size_t i = 0; i + 1 < words.size(); i += 2)
        if (words[i + 1] == "userfaultfd")
            if (const auto number = parse_number(words[i]))
                return static_cast<unsigned>(*number);
    return std::nullopt;
}

} // namespace inox::jail
