// SPDX-License-Identifier: Apache-2.0
#include "vmm/config/config.hpp"

#include "tests/catch.hpp"
#include "vmm/config/config_file.hpp"
#include "vmm/memory/layout.hpp"

namespace inox::config_test {

TEST_CASE("the default machine passes all rules") { CHECK(check(Config{}).empty()); }

TEST_CASE("CPUs are 1 to the most there are, and pairs with SMT") {
    for (const unsigned good : {1U, 2U, 31U, 32U})
        CHECK_FALSE(check_cpus(good, 32, false));
    for (const unsigned good : {1U, 2U, 32U})
        CHECK_FALSE(check_cpus(good, 32, true));
    CHECK(check_cpus(0, 32, false)->code == Errc::cpus_invalid);
    CHECK(check_cpus(33, 32, false)->code == Errc::cpus_invalid);
    CHECK(check_cpus(3, 32, true)->where == "/machine-config/vcpu_count");
}

TEST_CASE("a guest has 255 CPUs at most, and 32 where the configuration is Firecracker's") {
    const auto problems = [](Dialect dialect, unsigned cpus) {
        ConfigFile file = initial_config(dialect);
        file.config.machine.cpus = cpus;
        return check(file.config).size();
    };
    CHECK(problems(Dialect::inox, 255) == 0);
    CHECK(problems(Dialect::inox, 256) == 1);
    CHECK(problems(Dialect::firecracker, 32) == 0);
    CHECK(problems(Dialect::firecracker, 33) == 1);
}

TEST_CASE("memory is whole pages between the least and the most") {
    CHECK_FALSE(check_memory(layout::min_ram, HugePages::none));
    CHECK_FALSE(check_memory(layout::max_ram, HugePages::two_mib));
    CHECK(check_memory(layout::min_ram - page_size, HugePages::none)->code == Errc::memory_invalid);
    CHECK(check_memory(layout::max_ram + page_size, HugePages::none)->code == Errc::memory_invalid);
    CHECK(check_memory(~std::uint64_t{0}, HugePages::none)->code == Errc::memory_invalid);
    CHECK(check_memory(64 * MiB + 1, HugePages::none)->hint == "the next possible size is 65540 KiB");
    CHECK(check_memory(65 * MiB, HugePages::two_mib)->hint == "the next possible size is 66 MiB");
}

TEST_CASE("a command line is one line of text that fits") {
    CHECK_FALSE(check_cmdline("console=ttyS0"));
    CHECK_FALSE(check_cmdline(std::string(layout::cmdline_capacity - 1, 'x')));
    CHECK(check_cmdline(std::string(layout::cmdline_capacity, 'x'))->code == Errc::cmdline_too_long);
    CHECK(check_cmdline("a\nb")->code == Errc::config_value);
    CHECK(check_cmdline(std::string_view{"a\0b", 3})->code == Errc::config_value);
}

TEST_CASE("an initrd or a command line needs a kernel") {
    Config config;
    config.boot.initrd = "/i";
    config.boot.cmdline = "quiet";
    CHECK(check(config).size() == 2);
    config.boot.kernel = "/k";
    CHECK(check(config).empty());
}

} // namespace inox::config_test
