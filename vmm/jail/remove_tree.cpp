// SPDX-License-Identifier: Apache-2.0
#include "vmm/jail/remove_tree.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <string_view>
#include <sys/syscall.h>
#include <unistd.h>
#include <vector>

#include "vmm/base/os.hpp"

namespace inox::jail {
namespace {

constexpr int deepest = 64; ///< a jail is about three levels deep

UniqueFd open_folder(int parent, const char* name) {
    open_how how{};
    how.flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW;
    how.resolve = RESOLVE_NO_XDEV | RESOLVE_NO_SYMLINKS;
    return UniqueFd{static_cast<int>(::syscall(SYS_openat2, parent, name, &how, sizeof how))}; // NOLINT(*-vararg)
}

std::vector<std::string> names_in(int folder) {
    std::vector<std::string> names;
    DIR* const stream = ::fdopendir(::fcntl(folder, F_DUPFD_CLOEXEC, 0)); // NOLINT(*-vararg)
    if (stream == nullptr)
        return names;
    while (const auto* entry = ::readdir(stream)) // NOLINT(concurrency-mt-unsafe)
        if (const std::string_view name = entry->d_name; name != "." && name != "..")
            names.emplace_back(name);
    ::closedir(stream);
    return names;
}

void empty_folder(const UniqueFd& folder, int depth) {
    if (!folder || depth > deepest)
        return;
    for (const auto& name : names_in(folder.get())) {
        if (::unlinkat(folder.get(), name.c_str(), 0) == 0)
            continue;
        empty_folder(open_folder(folder.get(), name.c_str()), depth + 1);
        ::unlinkat(folder.get(), name.c_str(), AT_REMOVEDIR);
    }
}

} // namespace

void remove_tree(const std::string& path) {
    const auto slash = path.rfind('/');
    const UniqueFd parent{::open(path.substr(0, slash + 1).c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC)}; // NOLINT
    const auto name = path.substr(slash + 1);
    if (!parent || name.empty())
        return;
    empty_folder(open_folder(parent.get(), name.c_str()), 0);
    ::unlinkat(parent.get(), name.c_str(), AT_REMOVEDIR);
}

} // namespace inox::jail
