// SPDX-License-Identifier: Apache-2.0
#include "vmm/base/descriptors.hpp"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <string>

#include "tests/catch.hpp"
#include "vmm/base/os.hpp"
#include "vmm/base/unix_socket.hpp"
#include "vmm/memory/guest_memory.hpp"

namespace inox::base_descriptors_test {

namespace {

/// Runs `check` in a process of its own, because descriptors and limits belong to a whole process.
template <class F> bool in_child(F check) {
    const pid_t pid = ::fork();
    if (pid == 0)
        ::_exit(check() ? 0 : 1);
    int status = 0;
    ::waitpid(pid, &status, 0);
    return status == 0;
}

bool is_open(int fd) { return ::fcntl(fd, F_GETFD) >= 0; }

} // namespace

TEST_CASE("descriptors that came with the start are closed, but for 0 to 2 and those that a path names") {
    CHECK(in_child([] {
        for (const int fd : {50, 51, 52, 53, 54, 200})
            ::dup2(1, fd);
        descriptors::keep_named("--disk=path=/dev/fd/51,readonly=on");
        descriptors::keep_named(R"({"a": "\/proc\/self\/fd\/53", "b": "/dev/fd/x", "c": "/dev/fd/99999999999"})");
        descriptors::close_inherited();
        return is_open(0) && is_open(1) && is_open(2) && !is_open(50) && is_open(51) && !is_open(52) && is_open(53) &&
               !is_open(54) && !is_open(200);
    }));
}

TEST_CASE("the limit on descriptors is raised as far as it may") {
    CHECK(in_child([] {
        rlimit limit{};
        ::getrlimit(RLIMIT_NOFILE, &limit);
        limit.rlim_cur = limit.rlim_max / 2;
        ::setrlimit(RLIMIT_NOFILE, &limit);
        descriptors::raise_limit();
        ::getrlimit(RLIMIT_NOFILE, &limit);
        return limit.rlim_cur == limit.rlim_max;
    }));
}

TEST_CASE("what a guest may spend leaves what is reserved, and half of a small limit") {
    CHECK(in_child([] {
        rlimit limit{1024, 1024};
        if (::setrlimit(RLIMIT_NOFILE, &limit) != 0 || descriptors::spendable() != 896)
            return false;
        const descriptors::Reserve some{100};
        if (descriptors::spendable() != 796)
            return false;
        const descriptors::Reserve many{5000};
        return descriptors::spendable() == 384;
    }));
}

TEST_CASE("a file that inox makes for output is its owner's alone, one that is there stays as it is") {
    const std::string path = "/tmp/inox-output-" + std::to_string(::getpid());
    const mode_t before = ::umask(0);
    const auto mode = [&] {
        struct stat status {};
        return ::stat(path.c_str(), &status) == 0 ? status.st_mode & 0777U : 0U;
    };
    CHECK(open_output(path));
    CHECK(mode() == 0600);
    ::chmod(path.c_str(), 0644);
    CHECK(open_output(path));
    CHECK(mode() == 0644);
    ::unlink(path.c_str());
    ::umask(before);
}

TEST_CASE("a socket has its mode from the moment it is bound, whatever the umask") {
    const std::string path = "/tmp/inox-bound-" + std::to_string(::getpid());
    sockaddr_un address{AF_UNIX, {}};
    path.copy(address.sun_path, sizeof address.sun_path - 1);
    for (const mode_t umask : {0U, 022U, 0777U}) {
        const mode_t before = ::umask(umask);
        const UniqueFd socket{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
        struct stat status {};
        CHECK(bind_with_mode(socket.get(), address, 0660));
        CHECK(::stat(path.c_str(), &status) == 0);
        CHECK((status.st_mode & 0777U) == 0660);
        CHECK(::umask(before) == umask);
        ::unlink(path.c_str());
    }
}

TEST_CASE("guest memory is in no core dump, private or shared") {
    for (const auto sharing : {GuestMemory::Sharing::unneeded, GuestMemory::Sharing::needed}) {
        const auto memory = GuestMemory::create(16 * MiB, HugePages::transparent, sharing);
        REQUIRE(memory);
        const auto first = reinterpret_cast<std::uintptr_t>(memory->regions().front().host.data()); // NOLINT
        std::ifstream maps{"/proc/self/smaps"};
        bool here = false, found = false;
        for (std::string line; !found && std::getline(maps, line);) {
            if (line.find('-') != line.npos && line.find(':') > line.find(' '))
                here = std::stoull(line, nullptr, 16) == first;
            else if (here && line.starts_with("VmFlags:"))
                found = (line + " ").find(" dd ") != line.npos;
        }
        CHECK(found);
    }
}

} // namespace inox::base_descriptors_test
