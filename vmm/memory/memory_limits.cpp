// SPDX-License-Identifier: Apache-2.0
#include "vmm/memory/memory_limits.hpp"

#include <algorithm>
#include <vector>

#include "vmm/base/host_files.hpp"

namespace inox {
namespace {

constexpr std::uint64_t no_limit = std::uint64_t{1} << 62; // version 1 writes nearly 2^63 for "no limit"

/// Names of a controller's files. The limit on reservations counts at mmap(2), the other one at the first touch.
struct Controller {
    const char* version_1;                                     ///< its name there
    std::vector<std::pair<const char*, const char*>> limits_2; ///< limit and use
    std::vector<std::pair<const char*, const char*>> limits_1;
};

Controller controller_of(HugePages pages) {
    if (pages == HugePages::two_mib)
        return {"hugetlb",
                {{"hugetlb.2MB.max", "hugetlb.2MB.current"}, {"hugetlb.2MB.rsvd.max", "hugetlb.2MB.rsvd.current"}},
                {{"hugetlb.2MB.limit_in_bytes", "hugetlb.2MB.usage_in_bytes"},
                 {"hugetlb.2MB.rsvd.limit_in_bytes", "hugetlb.2MB.rsvd.usage_in_bytes"}}};
    return {"memory", {{"memory.max", "memory.current"}}, {{"memory.limit_in_bytes", "memory.usage_in_bytes"}}};
}

/// The control group of this process: where its hierarchy is mounted, and its path there (cgroups(7)).
struct Group {
    std::string mount;
    std::string path;
    bool version_2;
};
std::vector<Group> groups_of(const std::string& root, const char* version_1) {
    std::vector<Group> groups;
    const auto text = host::read_text(root + "/proc/self/cgroup", 65536);
    for (std::size_t at = 0; at < text.size();) {
        const auto end = std::min(text.find('\n', at), text.size());
        const auto line = text.substr(at, end - at);
        at = end + 1;
        const auto first = line.find(':');
        const auto second = line.find(':', first + 1);
        if (first == line.npos || second == line.npos)
            continue;
        const auto controllers = "," + line.substr(first + 1, second - first - 1) + ",";
        if (const auto path = line.substr(second + 1); !path.starts_with('/'))
            continue;
        if (controllers == ",,")
            groups.push_back({"/sys/fs/cgroup", line.substr(second + 1), true});
        else if (controllers.find("," + std::string{version_1} + ",") != controllers.npos)
            groups.push_back({std::string{"/sys/fs/cgroup/"} + version_1, line.substr(second + 1), false});
    }
    return groups;
}

/// Bytes left below the limit.
std::uint64_t left(const GroupLimit& limit) { return limit.limit - std::min(limit.used, limit.limit); }

std::string free_huge_pages(const std::string& root) {
    const auto directory = root + "/sys/kernel/mm/hugepages/hugepages-2048kB/";
    const auto number = [&](const char* name) {
        return static_cast<unsigned long long>(host::read_number(directory + name));
    };
    return format("%llu of %llu huge pages of 2 MiB are free (%llu of them reserved already)", number("free_hugepages"),
                  number("nr_hugepages"), number("resv_hugepages"));
}

/// Lines of /proc/PID/limits that count for memory.
std::string process_limits(const std::string& root) {
    static constexpr std::pair<const char*, const char*> rows[] = {
        {"Max address space", "ulimit -v"}, {"Max data size", "ulimit -d"}, {"Max file size", "ulimit -f"}};
    const auto text = host::read_text(root + "/proc/self/limits", 16384);
    std::string out;
    for (const auto& [row, name] : rows) {
        const auto at = text.find(row);
        if (at == text.npos)
            continue;
        const auto start = text.find_first_not_of(' ', at + std::string_view{row}.size());
        const auto soft = text.substr(start, text.find(' ', start) - start);
        if (soft != "unlimited")
            out += "; " + std::string{name} + " allows " + soft + " bytes";
    }
    return out;
}

} // namespace

std::optional<GroupLimit> group_limit(const std::string& root, HugePages pages) {
    const auto controller = controller_of(pages);
    std::optional<GroupLimit> lowest;
    for (const auto& group : groups_of(root, controller.version_1))
        for (auto path = group.path == "/" ? std::string{} : group.path;; path.resize(path.rfind('/'))) {
            for (const auto& [limit, use] : group.version_2 ? controller.limits_2 : controller.limits_1) {
                const auto directory = group.mount + path + "/";
                const auto text = host::read_text(root + directory + limit);
                const auto bytes = host::read_number(root + directory + limit);
                if (text.empty() || text == "max" || bytes >= no_limit)
                    continue;
                const GroupLimit found{directory + limit, bytes, host::read_number(root + directory + use)};
                if (!lowest || left(found) < left(*lowest))
                    lowest = found;
            }
            if (path.empty())
                break;
        }
    return lowest;
}

Result<void> check_memory_limits(const std::string& root, std::uint64_t bytes, HugePages pages) {
    if (pages != HugePages::two_mib)
        return {};
    const auto limit = group_limit(root, pages);
    if (!limit || left(*limit) >= bytes)
        return {};
    return fail(Errc::memory_unavailable,
                format("%s allows %llu MiB and %llu MiB are in use: %llu MiB of guest memory do not fit",
                       limit->file.c_str(), static_cast<unsigned long long>(limit->limit / MiB),
                       static_cast<unsigned long long>(limit->used / MiB),
                       static_cast<unsigned long long>(bytes / MiB)),
                "raise that limit, give the guest less memory, or use transparent huge pages");
}

std::string memory_limits_text(const std::string& root, HugePages pages) {
    std::string out = pages == HugePages::two_mib
                          ? free_huge_pages(root)
                          : format("the host has %llu MiB available",
                                   static_cast<unsigned long long>(host::meminfo(root, "MemAvailable") / MiB));
    if (const auto limit = group_limit(root, pages))
        out += format("; %s allows %llu MiB and %llu MiB are in use", limit->file.c_str(),
                      static_cast<unsigned long long>(limit->limit / MiB),
                      static_cast<unsigned long long>(limit->used / MiB));
    return out + process_limits(root);
}

} // namespace inox
