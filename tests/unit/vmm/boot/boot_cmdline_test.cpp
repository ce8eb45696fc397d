// SPDX-License-Identifier: Apache-2.0
#include "vmm/boot/cmdline.hpp"

#include "tests/catch.hpp"
#include "vmm/machine/platform.hpp"

namespace inox::boot_cmdline_test {

using namespace inox::boot;

namespace {

/// name, or name=value, with | between words.
std::string parsed(std::string_view line) {
    std::string out;
    for (const auto& word : cmdline_words(line)) {
        out += (out.empty() ? "" : "|") + std::string{word.name};
        if (word.value)
            out += "=" + std::string{*word.value};
    }
    return out;
}

Config machine_without_pci(const char* cmdline) {
    Config config;
    config.machine.transport = Transport::mmio;
    config.boot.cmdline = cmdline;
    return config;
}

} // namespace

TEST_CASE("a command line is taken apart as Linux does") {
    CHECK(parsed("") == "");
    CHECK(parsed("  ro   quiet\t") == "ro|quiet");
    CHECK(parsed("a=b=c =x a= \xa0z") == "a=b=c|=x|a=|z");
    CHECK(parsed(R"(a="b c" "d e"=f "g=h i" k="l)") == "a=b c|d e\"=f|g=h i|k=l");
    CHECK(parsed("a -- b noapic") == "a");
    CHECK(parsed("a \"--\" b") == "a");
    CHECK(parsed("a --x --=1 b") == "a|--x|--=1|b");
}

TEST_CASE("the last word of a name counts, dashes are underscores, and init's words are not the kernel's") {
    CHECK(find_cmdline_word("root=/dev/a quiet root=/dev/b", "root")->value == "/dev/b");
    CHECK(find_cmdline_word("log-buf-len=1M", "log_buf_len")->value == "1M");
    CHECK_FALSE(find_cmdline_word("x=root xroot=1 rootwait", "root"));
    CHECK_FALSE(find_cmdline_word(R"(note="see root=/dev/a" -- root=/dev/b)", "root"));
}

TEST_CASE("every noapic goes and nothing else does") {
    const auto without = [](std::string_view line) { return without_cmdline_word(line, unusable_word); };
    CHECK(without("ro console=ttyS0 noapic reboot=k") == "ro console=ttyS0 reboot=k");
    CHECK(without("noapic") == "");
    CHECK(without("ro noapic") == "ro");
    CHECK(without("noapic ro noapic") == "ro");
    CHECK(without("noapic noapic") == "");
    CHECK(without("noapictimer noapic") == "noapictimer");
    CHECK(without("x=noapic noapic y") == "x=noapic y");
    CHECK(without("noapictimer x=noapic") == "noapictimer x=noapic");
    CHECK(without(R"("noapic" noapic=1 a="b noapic c")") == R"(a="b noapic c")");
    CHECK(without("ro\tnoapic  quiet -- noapic") == "ro\t quiet -- noapic");
}

TEST_CASE("words the machine needs stand where the kernel reads them, and are not said twice") {
    CHECK(kernel_cmdline(machine_without_pci("")) == "pci=off");
    CHECK(kernel_cmdline(machine_without_pci("ro noapic -- noapic a")) == "ro pci=off -- noapic a");
    CHECK(kernel_cmdline(machine_without_pci("pci=off")) == "pci=off");
    CHECK(kernel_cmdline(machine_without_pci(R"(ro x="a -- b )")) == R"(ro x="a -- b " pci=off)");
    CHECK(kernel_cmdline(machine_without_pci(R"(noapic ")")) == R"("" pci=off)");
    CHECK(kernel_cmdline(machine_without_pci(R"(ro "--)")) == R"(ro pci=off "--)");
    CHECK(kernel_cmdline(machine_without_pci("pci=nomsi,off ro")) == "pci=nomsi,off ro");
    CHECK(kernel_cmdline(machine_without_pci("xpci=off")) == "xpci=off pci=off");
    CHECK(kernel_cmdline(machine_without_pci("init=/x -- pci=off")) == "init=/x pci=off -- pci=off");
    Config config = machine_without_pci(R"(note="my root=/dev/sda")");
    config.machine.transport = Transport::pci;
    put_device(config, DriveConfig{.root = true});
    CHECK(kernel_cmdline(config) == R"(note="my root=/dev/sda" root=/dev/vda rw)");
    config.boot.cmdline = "root=LABEL=x";
    CHECK(kernel_cmdline(config) == "root=LABEL=x");
}

} // namespace inox::boot_cmdline_test
