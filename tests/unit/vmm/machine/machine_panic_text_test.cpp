// SPDX-License-Identifier: Apache-2.0
#include "vmm/machine/panic_text.hpp"

#include "tests/catch.hpp"

namespace inox::machine_panic_text_test {

using enum PanicText::Console;

namespace {

struct Watched {
    std::vector<std::string> reasons{};
    unsigned dead{0};
    PanicText text{{[this](const std::string& reason) { reasons.push_back(reason); }, [this] { ++dead; }}};

    Watched& say(std::string_view what, PanicText::Console console = serial) {
        text.feed(console, std::as_bytes(std::span{what}));
        return *this;
    }
};

constexpr std::string_view killed_init =
    "[    1.234567] Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000100\r\n";

} // namespace

TEST_CASE("the kernel's own words are a panic, with their reason") {
    Watched guest;
    CHECK_FALSE(guest.say("[    1.0] Run /init as init process\r\n").text.panicked());
    CHECK(guest.say(killed_init).text.panicked() == "Attempted to kill init! exitcode=0x00000100");
    CHECK(guest.reasons == std::vector<std::string>{"Attempted to kill init! exitcode=0x00000100"});
    CHECK(guest.say("[    1.3] Kernel Offset: disabled\n").text.panicked());
    CHECK(guest.dead == 0);
    guest.say("[    1.4] ---[ end Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000100 ]---\r\n");
    CHECK(guest.dead == 1);
    CHECK(guest.reasons.size() == 1);
}

TEST_CASE("a panic is seen in whatever pieces and dress it comes") {
    const std::string line =
        "\x1b[0;31m<0>[    1.2][    T1] Kernel \x1b[1mpanic - not\r syncing: Fatal exception\x1b[0m\r\n";
    for (std::size_t cut = 0; cut <= line.size(); ++cut) {
        Watched guest;
        guest.say(std::string_view{line}.substr(0, cut)).say(std::string_view{line}.substr(cut));
        REQUIRE(guest.text.panicked() == "Fatal exception");
    }
    Watched bytewise;
    for (const char c : line)
        bytewise.say({&c, 1});
    CHECK(bytewise.text.panicked() == "Fatal exception");
    CHECK(Watched{}.say("Kernel panic - not syncing: x\n").text.panicked() == "x"); // printk.time=0
    CHECK(Watched{}.say("$ prompt[    9.9] Kernel panic - not syncing: x\n").text.panicked() == "x");
    CHECK(Watched{}.say("Kernel panic - not syncing\n").text.panicked() == "");
    CHECK(Watched{}.say(killed_init, virtio).text.panicked());
}

TEST_CASE("consoles are read apart and a panic that both show is one") {
    Watched guest;
    guest.say("[    1.2] Kernel pan").say("noise\n", virtio).say("ic - not syncing: a\n");
    CHECK(guest.text.panicked() == "a");
    guest.say("[    1.2] Kernel panic - not syncing: a\n", virtio);
    CHECK(guest.reasons.size() == 1);
}

TEST_CASE("a kernel that restarts or powers off in order did not panic, whoever printed the words") {
    for (const char* end : {"[   2.0] reboot: Restarting system\r\n", "reboot: machine restart\n",
                            "<0>[    2.0][    T1] reboot: Power down\r\n", "[ 2.0] reboot: System halted\n"})
        CHECK_FALSE(Watched{}.say(killed_init).say(end).text.panicked());
    CHECK(Watched{}.say("[    0.5] reboot: Restarting system\n").say(killed_init).text.panicked());
    CHECK(Watched{}.say(killed_init).say("# echo reboot: Restarting system\n").text.panicked());
    CHECK(Watched{}.say(killed_init).say("[    2.0] sysrq: Resetting\n").text.panicked());
    CHECK_FALSE(Watched{}.say(killed_init, virtio).say("[    2.0] reboot: Power down\n").text.panicked());
    // A crash kernel that dumps the first kernel's memory ends in an orderly way itself.
    Watched dumped;
    dumped.say(killed_init).say("[    0.000000] Linux version 6.12\n").say("[    9.0] reboot: Restarting system\n");
    CHECK(dumped.text.panicked());
}

TEST_CASE("a guest that never ends its line cannot hide a panic behind it") {
    for (std::size_t before = 0; before < 2 * PanicText::longest_line; ++before) {
        Watched guest;
        REQUIRE(guest.say(std::string(before, '.')).say(killed_init).text.panicked());
    }
    const std::string longest = "Kernel panic - not syncing: " + std::string(2000, 'y') + "\n";
    for (std::size_t before = 0; before < 2 * PanicText::longest_line; ++before) {
        Watched guest;
        const auto reason = guest.say(std::string(before, '.')).say(longest).text.panicked();
        REQUIRE(reason);
        REQUIRE(reason->starts_with("yyyy"));
        REQUIRE(reason->size() <= PanicText::longest_reason);
    }
}

} // namespace inox::machine_panic_text_test
