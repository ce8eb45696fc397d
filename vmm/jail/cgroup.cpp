// SPDX-License-Identifier: Apache-2.0
#include "vmm/jail/cgroup.hpp"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <thread>
#include <unistd.h>

#include "vmm/base/host_files.hpp"
#include "vmm/base/os.hpp"
#include "vmm/jail/words.hpp"

namespace inox::jail {
namespace {

using namespace std::chrono_literals;

/// A group that a jail made has one of these attributes. Root may set the first one, others the second.
constexpr const char* marks[] = {"trusted.inox.made", "user.inox.made"};

struct Mount {
    std::string point;
    std::string type;
    std::string options; ///< with a comma before and behind
};

std::vector<Mount> cgroup_mounts(const std::string& root) {
    std::vector<Mount> out;
    const std::string text = host::read_text(root + "/proc/mounts", 1024 * 1024) + "\n";
    for (std::size_t start = 0; start < text.size();) {
        const auto end = text.find('\n', start);
        const auto words = host::words(text.substr(start, end - start));
        if (words.size() >= 4 && (words[2] == "cgroup" || words[2] == "cgroup2"))
            out.push_back({root + words[1], words[2], "," + words[3] + ","});
        start = end + 1;
    }
    return out;
}

std::unexpected<Error> unavailable(const std::string& controller) {
    return fail(Errc::host_error, "Controller " + controller + " is unavailable",
                "see cgroup.controllers, or try the other --cgroup-version");
}

/// To a file that exists.
Result<void> write_value(const std::string& path, const std::string& value) {
    const UniqueFd file{::open(path.c_str(), O_WRONLY | O_CLOEXEC)}; // NOLINT(*-vararg)
    if (!file || ::write(file.get(), value.data(), value.size()) < 0)
        return fail_os("Failed to write to " + path);
    return {};
}

Result<void> make_folder(const std::string& path) {
    if (::mkdir(path.c_str(), 0755) != 0) {
        if (errno == EEXIST)
            return {};
        return fail_os("Failed to create directory " + path);
    }
    for (const char* mark : marks)
        if (::setxattr(path.c_str(), mark, "1", 1, 0) == 0)
            break;
    return {};
}

/// Each folder from the first below `top` down to `path`, which is below it.
std::vector<std::string> folders_below(const std::string& top, const std::string& path) {
    std::vector<std::string> out;
    for (auto end = top.size(); end < path.size();) {
        end = std::min(path.find('/', end + 1), path.size());
        out.push_back(path.substr(0, end));
    }
    return out;
}

/// Version 1's cpuset starts empty, and takes no process until it has what its parent has.
Result<void> inherit(const std::string& top, const std::string& path, const std::string& file) {
    if (!host::exists(path + "/" + file) || !host::read_text(path + "/" + file).empty())
        return {};
    const auto parent = path.substr(0, path.rfind('/'));
    if (path.size() > top.size())
        TRY_VOID(inherit(top, parent, file));
    const auto value = host::read_text(parent + "/" + file);
    if (path.size() <= top.size() || value.empty())
        return fail(Errc::host_error,
                    "Failed to inherit cgroups configurations from file " + file + " in path " + path);
    return write_value(path + "/" + file, value + "\n");
}

bool is_marked(const std::string& path) {
    char value = 0;
    return std::ranges::any_of(marks, [&](const char* mark) { return ::getxattr(path.c_str(), mark, &value, 1) == 1; });
}

} // namespace

Result<Cgroups> Cgroups::plan(const Options& options, const std::string& root) {
    Cgroups out;
    out.unified_ = options.cgroup_version == 2;
    out.parent_ = options.parent_cgroup;
    const auto mounts = cgroup_mounts(root);
    if (!options.wants_cgroup || (!out.unified_ && options.cgroups.empty()))
        return out;
    const auto found = std::ranges::find(mounts, out.unified_ ? "cgroup2" : "cgroup", &Mount::type);
    if (found == mounts.end())
        return fail(Errc::host_error, "Hierarchy not found: No hierarchy found for this cgroup version.",
                    "try the other --cgroup-version");
    if (out.unified_) {
        TRY_VOID(out.plan_unified(options, found->point));
        return out;
    }
    for (const auto& value : options.cgroups) {
        const auto mount = std::ranges::find_if(mounts, [&](const Mount& one) {
            return one.type == "cgroup" && one.options.find("," + value.controller() + ",") != one.options.npos;
        });
        if (mount == mounts.end())
            return unavailable(value.controller());
        auto group = std::ranges::find(out.groups_, mount->point, &Group::mount);
        if (group == out.groups_.end())
            group = out.groups_.insert(group, Group{mount->point, mount->point + "/" + out.parent_ + "/" + options.id});
        group->values.push_back(value);
    }
    return out;
}

/// Without a value there is no group: the parent is joined if it exists.
Result<void> Cgroups::plan_unified(const Options& options, const std::string& mount) {
    const auto parent = mount + "/" + parent_;
    if (options.cgroups.empty()) {
        if (host::exists(parent))
            groups_.push_back({mount, parent, {}, false});
        return {};
    }
    const auto controllers = host::words(host::read_text(mount + "/cgroup.controllers"));
    for (const auto& value : options.cgroups)
        if (value.controller() != "cgroup" && std::ranges::find(controllers, value.controller()) == controllers.end())
            return unavailable(value.controller());
    groups_.push_back({mount, parent + "/" + options.id, options.cgroups});
    return {};
}

Result<void> Cgroups::make() const {
    static constexpr int tries = 5; // the end of another jail may remove the parent meanwhile
    for (const auto& group : groups_) {
        if (!group.own)
            continue;
        Result<void> made;
        for (int i = 0; i < tries; ++i) {
            made = make(group);
            if (made || host::exists(group.path))
                break;
        }
        TRY_VOID(std::move(made));
    }
    return {};
}

Result<void> Cgroups::make(const Group& group) const {
    for (const auto& folder : folders_below(group.mount, group.path))
        TRY_VOID(make_folder(folder));
    if (unified_)
        TRY_VOID(hand_controllers_down(group));
    for (const auto& value : group.values) {
        if (!unified_)
            TRY_VOID(inherit(group.mount, group.path, value.file));
        TRY_VOID(write_value(group.path + "/" + value.file, value.value));
    }
    if (!unified_) // both are needed before a process can join
        for (const char* file : {"cpuset.cpus", "cpuset.mems"})
            TRY_VOID(inherit(group.mount, group.path, file));
    return {};
}

/// From the root to the parent: a group has the controllers that its parent's cgroup.subtree_control names.
Result<void> Cgroups::hand_controllers_down(const Group& group) const {
    auto above = folders_below(group.mount, group.path);
    above.pop_back();
    above.insert(above.begin(), group.mount);
    for (const auto& folder : above)
        for (const auto& value : group.values) {
            const auto file = folder + "/cgroup.subtree_control";
            const auto has = host::words(host::read_text(file));
            if (value.controller() != "cgroup" && std::ranges::find(has, value.controller()) == has.end())
                TRY_VOID(write_value(file, "+" + value.controller()));
        }
    return {};
}

Result<void> Cgroups::join(pid_t pid) const {
    for (const auto& group : groups_) {
        const auto file = group.path + (unified_ ? "/cgroup.procs" : "/tasks");
        if (auto written = write_value(file, std::to_string(pid)); written || group.own)
            TRY_VOID(std::move(written));
        else
            return fail(Errc::host_error, "Failed to move process to cgroup (" + group.path + "): " + os_text() + ".",
                        "If you intended to create a child cgroup under " + group.path +
                            ", pass any --cgroup parameters.");
    }
    return {};
}

std::vector<std::string> Cgroups::own() const {
    std::vector<std::string> out;
    for (const auto& group : groups_)
        if (group.own)
            out.push_back(group.path);
    return out;
}

void remove_group(const std::string& path) {
    static constexpr int tries = 200;
    int result = ::rmdir(path.c_str());
    for (int i = 0; i < tries && result != 0 && errno == EBUSY; ++i) {
        std::this_thread::sleep_for(10ms);
        result = ::rmdir(path.c_str());
    }
    for (auto above = path.substr(0, path.rfind('/')); !above.empty() && is_marked(above);
         above.erase(above.rfind('/')))
        if (::rmdir(above.c_str()) != 0)
            break;
}

} // namespace inox::jail
