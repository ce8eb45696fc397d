// SPDX-License-Identifier: Apache-2.0
#include "vmm/share/confine.hpp"

#include <cerrno>
#include <functional>
#include <linux/capability.h>
#include <linux/landlock.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/catch.hpp"
#include "tests/unit/vmm/share/share_world.hpp"
#include "vmm/share/process.hpp"

namespace inox::share_confine_test {

namespace {

struct Place {
    Place() {
        (void)!::mkdtemp(top.data());
        std::filesystem::create_directories(top + "/shared/a");
        std::filesystem::create_directories(top + "/shared/b");
        std::ofstream{top + "/secret"} << "x";
        std::ofstream{top + "/shared/a/file"} << "x";
    }
    ~Place() { std::filesystem::remove_all(top); }
    Place(const Place&) = delete;
    Place& operator=(const Place&) = delete;
    std::string top{"/tmp/inox-share-XXXXXX"};
};

/// Exit status of a process that confines itself to the folder and then does `work`.
int confined(const Place& place, bool read_only, const std::function<int(int folder)>& work) {
    const auto child = ::fork();
    if (child == 0) {
        const int folder = ::open((place.top + "/shared").c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC);
        ::_exit(share::confine(folder, read_only) ? work(folder) : 99);
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 100;
}

long landlock() { return ::syscall(SYS_landlock_create_ruleset, nullptr, 0, LANDLOCK_CREATE_RULESET_VERSION); }

} // namespace

TEST_CASE("a server has no new privileges, is not to be traced, and keeps few capabilities") {
    const Place place;
    CHECK(confined(place, false, [](int) {
              __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
              std::array<__user_cap_data_struct, 2> sets{};
              ::syscall(SYS_capget, &header, sets.data());
              const auto capabilities = std::uint64_t{sets[1].permitted} << 32 | sets[0].permitted;
              constexpr std::uint64_t system_admin = 1ULL << CAP_SYS_ADMIN;
              constexpr std::uint64_t others = system_admin | 1ULL << CAP_NET_ADMIN | 1ULL << CAP_SYS_PTRACE;
              return ::prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1 && ::prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) == 0 &&
                             (capabilities & others) == 0
                         ? 0
                         : 1;
          }) == 0);
}

TEST_CASE("a server can work in its folder and, where the kernel has Landlock, nowhere else") {
    const Place place;
    const bool read_only = GENERATE(false, true);
    const bool fenced = landlock() >= (read_only ? 1 : 2);
    CHECK(confined(place, read_only, [&](int folder) {
              const UniqueFd file{::openat(folder, "a/file", O_RDONLY)};
              const UniqueFd list{::openat(folder, "a", O_RDONLY | O_DIRECTORY)};
              if (!file || !list)
                  return 1;
              if (::renameat(folder, "a/file", folder, "b/file") != 0 && !(read_only && fenced))
                  return 2;
              const UniqueFd outside{::open((place.top + "/secret").c_str(), O_RDONLY)};
              if (fenced == static_cast<bool>(outside))
                  return 3;
              const UniqueFd made{::openat(folder, "new", O_RDWR | O_CREAT, 0600)};
              return static_cast<bool>(made) == (read_only && fenced) ? 4 : 0;
          }) == 0);
    if (!fenced)
        WARN("this kernel has no Landlock: " << landlock());
}

TEST_CASE("only a folder that can be listed is shared") {
    const Place place;
    CHECK(share::open_folder(place.top + "/shared"));
    const auto missing = share::open_folder(place.top + "/none");
    REQUIRE(!missing);
    CHECK(missing.error().code == Errc::not_found);
    CHECK(missing.error().sys_errno == ENOENT);
    const auto file = share::open_folder(place.top + "/secret");
    REQUIRE(!file);
    CHECK(file.error().sys_errno == ENOTDIR);
    if (::geteuid() != 0) {
        std::filesystem::permissions(place.top + "/shared/a", std::filesystem::perms::owner_exec);
        CHECK(!share::open_folder(place.top + "/shared/a"));
        std::filesystem::permissions(place.top + "/shared/a", std::filesystem::perms::owner_all);
    }
}

TEST_CASE("a server that cannot be started is an error, and one that ends is reaped") {
    const Place place;
    const auto folder = share::open_folder(place.top + "/shared");
    REQUIRE(folder);
    const auto none = share::start(folder->get(), false, "/nonexistent/inox");
    REQUIRE(!none);
    CHECK(none.error().sys_errno == ENOENT);
    auto ends = share::start(folder->get(), false, "/bin/false");
    REQUIRE(ends);
    char byte = 0;
    CHECK(::read(ends->socket.get(), &byte, 1) == 0); // nobody else holds its end
    CHECK(ends->process.ended(std::chrono::seconds{10}) == "ended with status 1");
    auto stays = share::start(folder->get(), false, "/bin/cat"); // waits for nothing: its input is empty
    REQUIRE(stays);
    stays = {};
    CHECK(::waitpid(-1, nullptr, WNOHANG) == -1);
    CHECK(errno == ECHILD);
}

} // namespace inox::share_confine_test
