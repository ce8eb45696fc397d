// SPDX-License-Identifier: Apache-2.0
// The host's texts and bytes: reserved regions, capability chains, PCI addresses.
#include <algorithm>
#include <string_view>

#include "devices/vfio/capabilities.hpp"
#include "devices/vfio/dma/window.hpp"
#include "devices/vfio/pci_address.hpp"
#include "devices/vfio/sysfs.hpp"
#include "tests/fuzz/input.hpp"

using namespace inox;

namespace {

using namespace devices::vfio;
using fuzz::require;

void windows(std::string_view text) {
    const auto lines = parse_reserved(text);
    std::vector<IovaRange> usable; // every third line is a range that the kernel allows to map
    for (std::size_t i = 0; i < lines.size(); i += 3)
        usable.push_back(lines[i].range);
    const auto window = make_window(usable, lines, 0x1000);
    for (std::size_t i = 1; i < window.apertures.size(); ++i)
        require(window.apertures[i - 1].last() < window.apertures[i].start());
    for (std::size_t i = 1; i < window.reserved.size(); ++i)
        require(window.reserved[i - 1].range.last() < window.reserved[i].range.start());
    for (const auto& aperture : window.apertures)
        for (const auto& line : lines)
            require(line.relaxable || !aperture.overlaps(line.range));
    for (const auto& region : window.reserved)
        for (const auto& aperture : window.apertures)
            require(!aperture.overlaps(region.range));
}

void chains(std::span<const std::byte> answer) {
    for (const std::uint32_t first : {0U, 8U, 24U, 32U, 0xfffffff8U})
        for (const auto& capability : info_capabilities(answer, first))
            require(capability.body.data() + capability.body.size() == answer.data() + answer.size());
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string_view text{reinterpret_cast<const char*>(data), std::min<std::size_t>(size, 4096)}; // NOLINT
    windows(text);
    chains(std::as_bytes(std::span{data, size}));
    if (const auto address = PciAddress::parse(text))
        require(PciAddress::parse(address->text()) == address);
    return 0;
}
