// SPDX-License-Identifier: Apache-2.0
#include "vmm/jail/binds.hpp"

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstdlib>
#include <fcntl.h>
#include <memory>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/config/config_text.hpp"
#include "vmm/jail/folders.hpp"
#include "vmm/jail/words.hpp"

namespace inox::jail {
namespace {

constexpr std::string_view read_only_ending = ":ro";

std::string canonical(const std::string& path) {
    const std::unique_ptr<char, decltype(&std::free)> whole{::realpath(path.c_str(), nullptr), &std::free};
    return whole ? whole.get() : std::string{};
}

/// Where to mount: made if it is missing. What a mount before this one shows is never changed, for its place exists.
Result<UniqueFd> place_for(const std::string& path, bool folder) {
    const auto slash = path.rfind('/');
    auto parent = TRY(make_folders(AT_FDCWD, path.substr(0, slash)));
    const auto name = path.substr(slash + 1);
    if (folder)
        return make_folders(parent.get(), name);
    UniqueFd file{::openat(parent.get(), name.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC)}; // NOLINT(*-vararg)
    if (!file)
        file.reset(::openat(parent.get(), name.c_str(), O_RDONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600)); // NOLINT
    if (!file)
        return fail_os("Failed to create " + path + " inside the jail");
    return file;
}

Result<void> mount_tree(const UniqueFd& tree, const std::string& path, bool folder) {
    const auto place = TRY(place_for(path, folder));
    if (::move_mount(tree.get(), "", place.get(), "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) != 0)
        return fail_os("Failed to mount " + path + " inside the jail");
    return {};
}

} // namespace

Bind parse_bind(const std::string& text) {
    if (text.ends_with(read_only_ending))
        return {text.substr(0, text.size() - read_only_ending.size()), false};
    return {text, true};
}

Result<Binds> Binds::open(std::span<const Bind> wanted) {
    Binds out;
    for (const auto& bind : wanted) {
        Open one{.path = canonical(bind.path), .alias = bind.path, .tree = {}, .folder = false};
        struct stat status {};
        if (one.path.empty() || ::stat(one.path.c_str(), &status) != 0)
            continue;
        if (one.path == "/")
            return fail(Errc::bad_option, "a jail cannot show the whole root of this host",
                        "name folders, or copy the root to a folder of its own");
        one.folder = S_ISDIR(status.st_mode);
        one.tree.reset(::open_tree(AT_FDCWD, one.path.c_str(), OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE));
        if (!one.tree)
            return fail_os("Failed to open " + printable(bind.path, PATH_MAX));
        mount_attr attributes{};
        attributes.attr_set = MOUNT_ATTR_NOSUID | (bind.writable ? 0U : MOUNT_ATTR_RDONLY);
        if (::mount_setattr(one.tree.get(), "", AT_EMPTY_PATH | AT_RECURSIVE, &attributes, sizeof attributes) != 0)
            return fail_os("Failed to restrict the mount of " + printable(bind.path, PATH_MAX));
        if (one.alias == one.path)
            one.alias.clear();
        const auto same = std::ranges::find(out.all_, one.path, &Open::path);
        if (same == out.all_.end())
            out.all_.push_back(std::move(one));
        else if (bind.writable)
            *same = std::move(one);
    }
    std::ranges::sort(out.all_, {}, &Open::path); // a folder before what is in it
    return out;
}

Result<void> Binds::put_at(const std::string& path) const {
    for (const auto& one : all_)
        TRY_VOID(mount_tree(one.tree, path, one.folder));
    return {};
}

Result<void> Binds::put() const {
    for (const auto& one : all_)
        TRY_VOID(mount_tree(one.tree, one.path, one.folder));
    for (const auto& one : all_) {
        if (one.alias.empty() || ::access(one.alias.c_str(), F_OK) == 0)
            continue;
        const auto slash = one.alias.rfind('/');
        const auto parent = TRY(make_folders(AT_FDCWD, one.alias.substr(0, slash)));
        if (::symlinkat(one.path.c_str(), parent.get(), one.alias.substr(slash + 1).c_str()) != 0 && errno != EEXIST)
            return fail_os("Failed to create " + one.alias + " inside the jail");
    }
    return {};
}

} // namespace inox::jail
