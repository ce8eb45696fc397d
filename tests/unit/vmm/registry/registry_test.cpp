// SPDX-License-Identifier: Apache-2.0
#include "vmm/registry/registry.hpp"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "tests/catch.hpp"

namespace inox::registry_test {

namespace {

namespace fs = std::filesystem;

/// A user's runtime folder of its own.
struct Runtime {
    Runtime() {
        char name[] = "/tmp/inox-registry.XXXXXX";
        path = ::mkdtemp(name);
        ::setenv("XDG_RUNTIME_DIR", path.c_str(), 1);
    }
    ~Runtime() {
        ::unsetenv("XDG_RUNTIME_DIR");
        fs::remove_all(path);
    }
    Runtime(const Runtime&) = delete;
    Runtime& operator=(const Runtime&) = delete;
    std::string path;
};

/// Another process that has the id until it is killed.
pid_t elsewhere(const std::string& id) {
    int ready[2]{};
    (void)!::pipe2(ready, O_CLOEXEC);
    const pid_t pid = ::fork();
    if (pid == 0) {
        const auto claim = registry::Claim::take(id);
        (void)!::write(ready[1], claim ? "y" : "n", 1);
        ::pause();
        ::_exit(0);
    }
    char answer = 0;
    (void)!::read(ready[0], &answer, 1);
    ::close(ready[0]);
    ::close(ready[1]);
    CHECK(answer == 'y');
    return pid;
}

} // namespace

TEST_CASE("a claim is listed with its pid and socket, refused to others, and gone with its owner") {
    const Runtime runtime;
    CHECK(registry::running().empty());
    CHECK_FALSE(fs::exists(runtime.path + "/inox"));
    CHECK(registry::check("one"));
    {
        const auto claim = registry::Claim::take("one");
        REQUIRE(claim);
        CHECK(claim->socket() == runtime.path + "/inox/one.sock");
        struct stat status {};
        REQUIRE(::stat((runtime.path + "/inox").c_str(), &status) == 0);
        CHECK((status.st_mode & 0777) == 0700);
        const auto two = registry::Claim::take("two", "relative.sock");
        REQUIRE(two);
        const auto guests = registry::running();
        REQUIRE(guests.size() == 2);
        CHECK(guests[0].id == "one");
        CHECK(guests[0].pid == ::getpid());
        CHECK(guests[0].socket == claim->socket());
        CHECK(guests[0].age < std::chrono::minutes{10});
        CHECK(guests[1].socket == fs::absolute("relative.sock").string());
        const auto again = registry::Claim::take("one");
        REQUIRE_FALSE(again);
        CHECK(again.error().code == Errc::in_use);
        CHECK(again.error().what.ends_with("pid " + std::to_string(::getpid())));
        CHECK(registry::check("one").error().what == again.error().what);
        CHECK(registry::find("one")->id == "one");
        CHECK_FALSE(registry::find("three"));
        CHECK_FALSE(registry::find("../one"));
    }
    CHECK(registry::running().empty());
    CHECK(fs::is_empty(runtime.path + "/inox"));
}

TEST_CASE("what a killed process leaves behind is removed, and its id is free") {
    const Runtime runtime;
    const pid_t pid = elsewhere("vm");
    std::ofstream{runtime.path + "/inox/vm.sock"};
    REQUIRE(registry::running().size() == 1);
    CHECK(registry::find("vm")->pid == pid);
    CHECK(registry::check("vm").error().what.ends_with(std::to_string(pid)));
    ::kill(pid, SIGKILL);
    ::waitpid(pid, nullptr, 0);
    CHECK(registry::check("vm"));
    CHECK(fs::exists(runtime.path + "/inox/vm.lock")); // check() changes nothing
    SECTION("by a look") { CHECK(registry::running().empty()); }
    SECTION("by the next guest") {
        const auto claim = registry::Claim::take("vm");
        REQUIRE(claim);
        CHECK(registry::find("vm")->pid == ::getpid());
    }
    CHECK(fs::exists(runtime.path + "/inox/vm.lock") == false);
}

TEST_CASE("a folder that others can write, or that is none, is refused") {
    const Runtime runtime;
    const auto folder = runtime.path + "/inox";
    const auto refused = [] {
        const auto claim = registry::Claim::take("vm");
        const auto checked = registry::check("vm");
        return !claim && !checked && claim.error().code == Errc::output_unwritable &&
               checked.error().what == claim.error().what;
    };
    SECTION("open to a group") {
        ::mkdir(folder.c_str(), 0700);
        ::chmod(folder.c_str(), 0770);
    }
    SECTION("a link") { ::symlink("/tmp", folder.c_str()); }
    SECTION("a file") { std::ofstream{folder}; }
    CHECK(refused());
    CHECK(registry::running().empty());
    CHECK_FALSE(registry::find("vm"));
}

TEST_CASE("many that look and claim at the same time agree who has an id") {
    const Runtime runtime;
    std::vector<pid_t> looking;
    for (int i = 0; i < 3; ++i) {
        const pid_t pid = ::fork();
        if (pid == 0)
            for (;;)
                (void)registry::running();
        looking.push_back(pid);
    }
    for (int i = 0; i < 300; ++i) {
        const auto claim = registry::Claim::take("vm");
        REQUIRE(claim);
        REQUIRE(registry::find("vm"));
        if (i % 50 == 0)
            REQUIRE_FALSE(registry::Claim::take("vm"));
    }
    for (const auto pid : looking) {
        ::kill(pid, SIGKILL);
        ::waitpid(pid, nullptr, 0);
    }
}

} // namespace inox::registry_test
