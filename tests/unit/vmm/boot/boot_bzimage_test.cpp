// SPDX-License-Identifier: Apache-2.0
#include "vmm/boot/bzimage.hpp"

#include "tests/catch.hpp"
#include "tests/support/boot_images.hpp"

namespace inox::boot_bzimage_test {

using namespace inox::boot;

namespace {

Result<boot::BzImage> parse(const tests::Bytes& bytes) { return parse_bzimage(Image::of(bytes, "k", Image::kernel)); }

void check_invalid(const tests::BzImage& bzimage, const std::string& says) {
    const auto bytes = bzimage.bytes();
    const auto image = parse(bytes);
    INFO(says);
    REQUIRE_FALSE(image);
    CHECK(image.error().code == Errc::kernel_invalid);
    CHECK(image.error().what.find(says) != std::string::npos);
    CHECK_FALSE(image.error().hint.empty());
}

} // namespace

TEST_CASE("a bzImage is loaded where it prefers, with the memory it asks for") {
    tests::BzImage kernel;
    const auto bytes = kernel.bytes();
    CHECK(is_bzimage(Image::of(bytes, "k", Image::kernel)));
    const auto image = parse(bytes);
    REQUIRE(image);
    CHECK(image->payload_offset == tests::BzImage::payload_at);
    CHECK(image->payload_size == 0x400);
    CHECK(image->load == Gpa{0x400000});
    CHECK(image->memory_size == 0x100000);
    CHECK(image->initrd_last == Gpa{0x7fffffff});
    CHECK(image->max_cmdline_size == 2047);
}

TEST_CASE("a setup sector count of 0 means 4") {
    tests::BzImage kernel;
    kernel.header.setup_sects = 0;
    kernel.payload.resize(0x600); // 0x400 bytes and one sector more, which counts as setup
    kernel.header.syssize = 0x40;
    CHECK(parse(kernel.bytes())->payload_offset == 5 * 512);
}

TEST_CASE("a relocatable bzImage that prefers low memory goes to the first aligned place above 1 MiB") {
    tests::BzImage kernel;
    kernel.header.pref_address = 0;
    CHECK(parse(kernel.bytes())->load == Gpa{0x200000});
    kernel.header.relocatable_kernel = 0;
    check_invalid(kernel, "pref_address");
    kernel.header.pref_address = 0x123000;
    CHECK(parse(kernel.bytes())->load == Gpa{0x123000});
}

TEST_CASE("bytes beyond the setup header are code and stay out of boot_params") {
    tests::BzImage kernel;
    kernel.header.kernel_info_offset = 0x11223344; // the last field
    kernel.header.jump = 0x66eb;                   // the header ends before it
    const auto image = parse(kernel.bytes());
    REQUIRE(image);
    CHECK(+std::bit_cast<setup_header>(image->setup_header).kernel_info_offset == 0);
    CHECK(+std::bit_cast<setup_header>(image->setup_header).init_size == 0x100000);
}

TEST_CASE("a bzImage without what inox needs is refused by field") {
    const auto with = [](auto change) {
        tests::BzImage kernel;
        change(kernel.header);
        return kernel;
    };
    check_invalid(with([](auto& h) { h.boot_flag = 0; }), "boot_flag");
    check_invalid(with([](auto& h) { h.version = 0x0205; }), "2.05");
    check_invalid(with([](auto& h) { h.version = 0x0209, h.code32_start = 0x10000; }), "code32_start");
    check_invalid(with([](auto& h) { h.loadflags = 0; }), "loadflags");
    check_invalid(with([](auto& h) { h.kernel_alignment = 0; }), "kernel_alignment");
    check_invalid(with([](auto& h) { h.kernel_alignment = 0x300000; }), "kernel_alignment");
    check_invalid(with([](auto& h) { h.payload_length = 0x401; }), "payload");
    check_invalid(with([](auto& h) { h.syssize = 0x41; }), "syssize");
    check_invalid(with([](auto& h) { h.syssize = 0x20; }), "no room for the entry");
}

TEST_CASE("a bzImage that has no 64-bit entry is entered at its 32-bit one") {
    tests::BzImage kernel;
    kernel.header.xloadflags = 0;
    kernel.header.syssize = 1;
    const auto newer = parse(kernel.bytes());
    REQUIRE(newer);
    CHECK_FALSE(newer->entry64);
    CHECK(newer->load == Gpa{0x400000});
    kernel.header.version = 0x0206; // fields of later versions are not read
    kernel.header.xloadflags = XLF_KERNEL_64;
    kernel.header.code32_start = 0x100000;
    kernel.header.kernel_alignment = 0;
    kernel.header.payload_length = 0x10000;
    const auto older = parse(kernel.bytes());
    REQUIRE(older);
    CHECK_FALSE(older->entry64);
    CHECK(older->load == Gpa{0x100000});
    CHECK(older->memory_size == 16);
}

TEST_CASE("a bzImage may end within the last paragraph that its header counts, and no earlier") {
    tests::BzImage kernel;
    const auto whole = kernel.bytes();
    for (std::size_t missing = 1; missing < 20; ++missing) {
        const auto image = parse(tests::Bytes(whole.begin(), whole.end() - static_cast<std::ptrdiff_t>(missing)));
        REQUIRE(image.has_value() == (missing < 16));
        if (image)
            REQUIRE(image->payload_size == kernel.payload.size() - missing);
    }
}

TEST_CASE("every truncation of a bzImage by a paragraph or more is refused") {
    const auto whole = tests::BzImage{}.bytes();
    for (std::size_t size = 0; size <= whole.size() - 16; ++size) {
        const tests::Bytes cut(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size));
        const auto image = parse(cut);
        REQUIRE_FALSE(image);
        REQUIRE(image.error().code == Errc::kernel_invalid);
    }
}

} // namespace inox::boot_bzimage_test
