// SPDX-License-Identifier: Apache-2.0
#include "devices/vfio/pci_address.hpp"

#include <charconv>

namespace inox::devices::vfio {
namespace {

/// Takes `least` to `most` hexadecimal digits from the front; nullopt when there are fewer or more.
std::optional<std::uint32_t> take_hex(std::string_view& text, std::size_t least, std::size_t most) {
    const auto digits = std::min(text.find_first_not_of("0123456789abcdefABCDEF"), text.size());
    std::uint32_t value = 0;
    if (digits < least || digits > most ||
        std::from_chars(text.data(), text.data() + digits, value, 16).ec != std::errc{})
        return std::nullopt;
    text.remove_prefix(digits);
    return value;
}

bool take(std::string_view& text, char expected) {
    if (!text.starts_with(expected))
        return false;
    text.remove_prefix(1);
    return true;
}

} // namespace

std::optional<PciAddress> PciAddress::parse(std::string_view text) {
    PciAddress out;
    if (text.find(':') != text.rfind(':')) {
        const auto segment = take_hex(text, 4, 8);
        if (!segment || !take(text, ':'))
            return std::nullopt;
        out.segment = *segment;
    }
    const auto bus = take_hex(text, 2, 2);
    if (!bus || !take(text, ':'))
        return std::nullopt;
    const auto slot = take_hex(text, 2, 2);
    if (!slot || *slot > 31 || !take(text, '.'))
        return std::nullopt;
    const auto function = take_hex(text, 1, 1);
    if (!function || *function > 7 || !text.empty())
        return std::nullopt;
    out.bus = static_cast<std::uint8_t>(*bus);
    out.slot = static_cast<std::uint8_t>(*slot);
    out.function = static_cast<std::uint8_t>(*function);
    return out;
}

std::string PciAddress::text() const { return format("%04x:%02x:%02x.%x", segment, bus, slot, function); }

} // namespace inox::devices::vfio
