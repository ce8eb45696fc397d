// SPDX-License-Identifier: Apache-2.0
// Reserved regions, capability chains, addresses: what the host gives as text or bytes.
#include "devices/vfio/dma/window.hpp"

#include <array>

#include "devices/vfio/capabilities.hpp"
#include "devices/vfio/pci_address.hpp"
#include "devices/vfio/sysfs.hpp"
#include "tests/catch.hpp"
#include "vmm/base/bytes.hpp"

namespace inox::vfio_window_test {

using namespace devices::vfio;
using Kind = iommu::ReservedKind;

namespace {

IovaRange range(std::uint64_t first, std::uint64_t last) { return *IovaRange::closed(Iova{first}, Iova{last}); }

} // namespace

TEST_CASE("lines of reserved regions are read in any order, unknown types are reserved, broken lines are skipped") {
    const auto lines = parse_reserved("0x00000000fee00000 0x00000000feefffff msi\n"
                                      "0x0000000000000000 0x0000000000ffffff direct-relaxable\n"
                                      "0x000000fd00000000 0x000000ffffffffff reserved\n"
                                      "0x1000 0x1fff direct\n"
                                      "0x5000 0x4fff msi\n"
                                      "nonsense\n0x1\n0x1 zz msi\n\n"
                                      "8000 8fff something new");
    REQUIRE(lines.size() == 5);
    CHECK(lines[0].kind == Kind::msi);
    CHECK(lines[0].range == range(0xfee00000, 0xfeefffff));
    CHECK(lines[1].relaxable);
    CHECK(lines[2].kind == Kind::reserved);
    CHECK(lines[3].kind == Kind::direct);
    CHECK_FALSE(lines[3].relaxable);
    CHECK(lines[4].range == range(0x8000, 0x8fff));
    CHECK(lines[4].kind == Kind::reserved);
    CHECK(parse_reserved("").empty());
}

TEST_CASE("the kernel's list says where, the labels say why") {
    const auto labels = parse_reserved("0xfee00000 0xfeefffff msi\n0x2000 0x2fff direct\n0x0 0xfff direct-relaxable\n");
    const auto window =
        make_window({range(0xfef00000, 0x7fffffffff), range(0, 0x1fff), range(0x4000, 0xfedfffff)}, labels, 0x1000);
    CHECK(window.apertures ==
          std::vector{range(0, 0x1fff), range(0x4000, 0xfedfffff), range(0xfef00000, 0x7fffffffff)});
    CHECK(window.reserved == std::vector<iommu::ReservedRegion>{{range(0x2000, 0x2fff), Kind::direct},
                                                                {range(0x3000, 0x3fff), Kind::reserved},
                                                                {range(0xfee00000, 0xfeefffff), Kind::msi}});
    CHECK(window.page_sizes == 0x1000);
}

TEST_CASE("a label that the kernel's list forgot is left out of it all the same") {
    const auto window = make_window({range(0, ~std::uint64_t{0})}, parse_reserved("0xfee00000 0xfeefffff msi"), 0x1000);
    CHECK(window.apertures == std::vector{range(0, 0xfedfffff), range(0xfef00000, ~std::uint64_t{0})});
    CHECK(window.reserved.size() == 1);
}

TEST_CASE("labels that overlap are told once, and one at the very end of the space does not wrap") {
    const auto window = make_window({},
                                    parse_reserved("0x1000 0x2fff msi\n0x2000 0x3fff reserved\n"
                                                   "0xfffffffffffff000 0xffffffffffffffff reserved\n"),
                                    0x1000);
    CHECK(window.apertures == std::vector{range(0, 0xfff), range(0x4000, ~std::uint64_t{0} - 0x1000)});
    CHECK(window.reserved ==
          std::vector<iommu::ReservedRegion>{{range(0x1000, 0x2fff), Kind::msi},
                                             {range(0x3000, 0x3fff), Kind::reserved},
                                             {range(~std::uint64_t{0} - 0xfff, ~std::uint64_t{0}), Kind::reserved}});
}

TEST_CASE("a capability chain ends at what is outside, goes back or repeats") {
    std::array<std::byte, 64> answer{};
    const auto header = [&](std::size_t at, unsigned id, std::uint32_t next) {
        store_le(std::span{answer}.subspan(at, 2), id);
        store_le(std::span{answer}.subspan(at + 4, 4), next);
    };
    header(16, 1, 32);
    header(32, 3, 0);
    auto found = info_capabilities(answer, 16);
    REQUIRE(found.size() == 2);
    CHECK(found[0].id == 1);
    CHECK(found[1].id == 3);
    CHECK(found[1].body.size() == 64 - 40);
    for (const std::uint32_t next : {16U, 32U, 0U, 57U, 64U, 0xfffffff0U, 8U}) {
        INFO(next);
        header(32, 3, next);
        CHECK(info_capabilities(answer, 16).size() == 2);
    }
    CHECK(info_capabilities(answer, 0).empty());
    CHECK(info_capabilities(answer, 60).empty());
    CHECK(info_capabilities(answer, 0xffffffff).empty());
}

TEST_CASE("the kernel is asked again with the room it wants, but not for ever") {
    int error = 0;
    std::size_t asked = 0;
    const auto answer = ask_with_capabilities(
        24, {},
        [&](std::span<std::byte> buffer) {
            ++asked;
            if (buffer.size() < 100)
                store_le(buffer.first(4), 100);
            return 0;
        },
        error);
    CHECK(answer.size() == 100);
    CHECK(asked == 2);
    asked = 0;
    CHECK(ask_with_capabilities(
              24, {},
              [&](std::span<std::byte> buffer) {
                  ++asked;
                  store_le(buffer.first(4), buffer.size() + 1);
                  return 0;
              },
              error)
              .empty());
    CHECK(error == -E2BIG);
    CHECK(asked < 10);
    CHECK(ask_with_capabilities(
              24, {}, [](auto) { return -ENODEV; }, error)
              .empty());
    CHECK(error == -ENODEV);
}

TEST_CASE("PCI addresses are read in both forms and written in the long one") {
    CHECK(PciAddress::parse("0000:01:00.0")->text() == "0000:01:00.0");
    CHECK(PciAddress::parse("ff:1F.7")->text() == "0000:ff:1f.7");
    CHECK(PciAddress::parse("10000:e1:00.0")->text() == "10000:e1:00.0"); // behind a VMD
    for (const auto* text : {"", ":", "1:00.0", "01:00", "01:00.8", "01:20.0", "0000:01:00.0 ", "000:01:00.0",
                             "0000:01:00:0", "0000:001:00.0", "123456789:01:00.0", "0000:01:00.00", "01-00.0"}) {
        INFO(text);
        CHECK_FALSE(PciAddress::parse(text));
    }
}

} // namespace inox::vfio_window_test
