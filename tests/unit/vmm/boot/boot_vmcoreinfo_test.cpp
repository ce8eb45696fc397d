// SPDX-License-Identifier: Apache-2.0
#include "vmm/boot/vmcoreinfo.hpp"

#include <cstring>
#include <fstream>

#include "tests/catch.hpp"

namespace inox::boot_vmcoreinfo_test {

namespace {

constexpr std::string_view text = "OSRELEASE=6.1.0\nPAGESIZE=4096\nKERNELOFFSET=1ee00000\nKERNELOFFSETX=1\n";

std::string note(std::string_view body, std::uint32_t size) {
    const std::uint32_t header[3] = {11, size, 0};
    std::string out(reinterpret_cast<const char*>(header), sizeof header);
    return out + std::string{"VMCOREINFO\0\0", 12} + std::string{body};
}

void put(const GuestMemory& memory, Gpa at, std::string_view bytes) {
    REQUIRE(memory.write(at, std::as_bytes(std::span{bytes})));
}

/// Pages that this process holds in memory.
std::size_t resident() {
    std::size_t size = 0;
    std::size_t pages = 0;
    std::ifstream{"/proc/self/statm"} >> size >> pages;
    return pages;
}

} // namespace

TEST_CASE("the note is found wherever a page begins with it, and no page becomes touched") {
    const auto memory = GuestMemory::create(1 * GiB, HugePages::none);
    REQUIRE(memory);
    CHECK_FALSE(boot::find_vmcoreinfo(*memory));
    put(*memory, Gpa{0x3f123000}, note(text, text.size()));
    const auto before = resident();
    const auto found = boot::find_vmcoreinfo(*memory);
    CHECK(resident() < before + 256);
    REQUIRE(found);
    CHECK(*found == text);
    CHECK(boot::vmcoreinfo_number(*found, "KERNELOFFSET") == 0x1ee00000);
    CHECK(boot::vmcoreinfo_value(*found, "OSRELEASE") == "6.1.0");
    CHECK_FALSE(boot::vmcoreinfo_value(*found, "OSREL"));
    CHECK_FALSE(boot::vmcoreinfo_number(*found, "OSRELEASE_"));
}

TEST_CASE("what a hostile guest writes there is no note") {
    const auto memory = GuestMemory::create(64 * MiB, HugePages::none);
    REQUIRE(memory);
    const Gpa last{64 * MiB - 0x1000};
    for (const std::uint32_t size : {0U, 4097U, 0xffffffffU}) {
        put(*memory, last, note(text, size));
        CHECK_FALSE(boot::find_vmcoreinfo(*memory));
    }
    put(*memory, last, note(text, 4096)); // longer than memory
    CHECK_FALSE(boot::find_vmcoreinfo(*memory));
    put(*memory, last, note("PAGESIZE=4096\n", 14));
    CHECK_FALSE(boot::find_vmcoreinfo(*memory));
    put(*memory, last, note(text, text.size()));
    CHECK(boot::find_vmcoreinfo(*memory));
}

} // namespace inox::boot_vmcoreinfo_test
