// SPDX-License-Identifier: Apache-2.0
#include "vmm/memory/memory_limits.hpp"

#include <csignal>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/catch.hpp"
#include "tests/fakes/vfio_tree.hpp"

namespace inox::memory_limits_test {

namespace {

/// A made-up /proc and /sys.
struct Host : fakes::VfioTree {
    Host() {
        file("proc/self/cgroup", "0::/a/b\n");
        file("proc/meminfo", "MemTotal: 999999 kB\nMemAvailable:   2048000 kB\n");
        file("proc/self/limits", "Limit                     Soft Limit           Hard Limit           Units     \n"
                                 "Max file size             unlimited            unlimited            bytes     \n"
                                 "Max data size             unlimited            unlimited            bytes     \n"
                                 "Max address space         1073741824           unlimited            bytes     \n");
        for (const auto& [name, value] : {std::pair{"free", "7"}, {"nr", "9"}, {"resv", "1"}})
            file("sys/kernel/mm/hugepages/hugepages-2048kB/" + std::string{name} + "_hugepages", value);
    }
    void group(const std::string& path, const std::string& name, const std::string& value) const {
        file("sys/fs/cgroup" + path + "/" + name, value + "\n");
    }
};

bool holds(const std::string& text, const std::string& part) { return text.find(part) != text.npos; }

} // namespace

TEST_CASE("of the groups above a process the one that leaves least counts") {
    const Host host;
    CHECK_FALSE(group_limit(host.root(), HugePages::none));
    host.group("/a/b", "memory.max", "max");
    CHECK_FALSE(group_limit(host.root(), HugePages::none));
    host.group("/a", "memory.max", "1073741824");
    host.group("/a", "memory.current", "1048576");
    host.group("/a/b", "memory.max", "2147483648");
    host.group("/a/b", "memory.current", "1048576");
    const auto limit = group_limit(host.root(), HugePages::none);
    REQUIRE(limit);
    CHECK(limit->file == "/sys/fs/cgroup/a/memory.max");
    CHECK(limit->limit == GiB);
    CHECK(limit->used == MiB);
    CHECK_FALSE(group_limit(host.root(), HugePages::two_mib));
}

TEST_CASE("a limit on huge pages is found at their first touch and at their reservation") {
    const Host host;
    CHECK(check_memory_limits(host.root(), 128 * MiB, HugePages::two_mib));
    for (const std::string name : {"hugetlb.2MB", "hugetlb.2MB.rsvd"}) {
        host.group("/a", name + ".max", std::to_string(128 * MiB));
        host.group("/a", name + ".current", "0");
        CHECK(check_memory_limits(host.root(), 128 * MiB, HugePages::two_mib));
        host.group("/a", name + ".current", std::to_string(2 * MiB));
        const auto refused = check_memory_limits(host.root(), 128 * MiB, HugePages::two_mib);
        REQUIRE_FALSE(refused);
        CHECK(refused.error().code == Errc::memory_unavailable);
        CHECK(holds(refused.error().what, "/sys/fs/cgroup/a/" + name + ".max allows 128 MiB and 2 MiB are in use"));
        CHECK_FALSE(refused.error().hint.empty());
        CHECK(check_memory_limits(host.root(), 128 * MiB, HugePages::transparent));
        host.remove("sys/fs/cgroup/a");
    }
}

TEST_CASE("version 1 has each controller in a hierarchy of its own") {
    const Host host;
    host.file("proc/self/cgroup", "7:cpu,cpuacct:/x\n5:hugetlb:/h\n4:memory:/\n0::/\n");
    host.group("/hugetlb/h", "hugetlb.2MB.limit_in_bytes", "9223372036854771712");
    host.group("/memory", "memory.limit_in_bytes", "4194304");
    CHECK_FALSE(group_limit(host.root(), HugePages::two_mib));
    CHECK(group_limit(host.root(), HugePages::none)->limit == 4 * MiB);
    host.group("/hugetlb/h", "hugetlb.2MB.limit_in_bytes", "2097152");
    CHECK(group_limit(host.root(), HugePages::two_mib)->file == "/sys/fs/cgroup/hugetlb/h/hugetlb.2MB.limit_in_bytes");
}

TEST_CASE("every limit that applies is told") {
    const Host host;
    auto text = memory_limits_text(host.root(), HugePages::two_mib);
    CHECK(holds(text, "7 of 9 huge pages of 2 MiB are free (1 of them reserved already)"));
    CHECK(holds(text, "ulimit -v allows 1073741824 bytes"));
    CHECK_FALSE(holds(text, "ulimit -d"));
    host.group("/a/b", "hugetlb.2MB.max", "2097152");
    host.group("/a/b", "hugetlb.2MB.current", "2097152");
    text = memory_limits_text(host.root(), HugePages::two_mib);
    CHECK(holds(text, "/sys/fs/cgroup/a/b/hugetlb.2MB.max allows 2 MiB and 2 MiB are in use"));
    CHECK(holds(memory_limits_text(host.root(), HugePages::none), "2000 MiB available"));
    CHECK_FALSE(holds(memory_limits_text(host.root(), HugePages::none), "hugetlb"));
}

TEST_CASE("a host that tells nothing gives no limit, and odd lines of it are passed over") {
    const fakes::VfioTree empty;
    CHECK_FALSE(group_limit(empty.root(), HugePages::none));
    CHECK(check_memory_limits(empty.root(), GiB, HugePages::two_mib));
    empty.file("proc/self/cgroup", "nonsense\n0:\n0::no/slash\n::\n");
    CHECK_FALSE(group_limit(empty.root(), HugePages::two_mib));
}

TEST_CASE("memory in a file beyond the limit of file sizes is an error, and no signal") {
    const pid_t child = ::fork();
    if (child == 0) {
        ::signal(SIGXFSZ, SIG_DFL);
        const rlimit small{2 * MiB, 2 * MiB};
        ::setrlimit(RLIMIT_FSIZE, &small);
        const auto memory = GuestMemory::create(4 * MiB, HugePages::none);
        const bool told = !memory && memory.error().code == Errc::memory_unavailable &&
                          memory.error().what == "the guest's memory needs a file in memory of 4096 KiB, and files may "
                                                 "have 2048 KiB (RLIMIT_FSIZE)" &&
                          memory.error().hint.starts_with("raise it: ulimit -f 4096");
        ::_exit(told && GuestMemory::create(2 * MiB, HugePages::none) ? 7 : 1);
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    CHECK((WIFEXITED(status) && WEXITSTATUS(status) == 7));
}

} // namespace inox::memory_limits_test
