// SPDX-License-Identifier: Apache-2.0
#include "devices/pci/config_space.hpp"

#include <algorithm>
#include <bit>
#include <utility>

#include "devices/state_fields.hpp"
#include "vmm/base/hex.hpp"

namespace inox::devices::pci {
namespace {

constexpr unsigned capabilities_start = 0x40;
constexpr unsigned extended_start = 0x100;
constexpr std::uint16_t status_interrupt = 1 << 3;
constexpr std::uint16_t status_capabilities = 1 << 4;
constexpr std::uint8_t header_multi_function = 0x80;
constexpr std::uint32_t bar_io = 0x1;
constexpr std::uint32_t bar_64_bit = 0x4;
constexpr std::uint32_t bar_prefetchable = 0x8;
constexpr std::uint32_t rom_enable = 0x1;

constexpr unsigned bar_register(unsigned index) {
    return index == rom_bar ? reg::expansion_rom : reg::bar0 + 4 * index;
}

constexpr std::uint64_t smallest(unsigned index, BarKind kind) {
    if (index == rom_bar)
        return 2 * KiB;
    return kind == BarKind::io ? 4 : 16;
}

constexpr std::uint64_t largest(BarKind kind) {
    switch (kind) {
    case BarKind::io:
        return 256;
    case BarKind::memory32:
        return 2 * GiB;
    default:
        return std::uint64_t{1} << 62;
    }
}

} // namespace

ConfigSpace::ConfigSpace(const Identity& identity, unsigned size) : bytes_(size), writable_(size), used_(size / 4) {
    set(reg::vendor, identity.vendor);
    set(reg::device, identity.device);
    set(reg::revision, identity.class_code << 8 | identity.revision);
    set(reg::subsystem_vendor, identity.subsystem_vendor);
    set(reg::subsystem, identity.subsystem);
    using namespace command_bit;
    allow_writes<std::uint16_t>(reg::command, io | memory | bus_master | parity | serr | intx_disable);
    allow_writes<std::uint8_t>(reg::cache_line_size, 0xff);
    allow_writes<std::uint8_t>(reg::interrupt_line, 0xff);
    reserve(0, capabilities_start);
}

void ConfigSpace::read(unsigned offset, std::span<std::byte> data) const noexcept {
    constexpr unsigned live_status = reg::status; // the interrupt status bit is in its low byte
    for (auto& byte : data) {
        byte = offset < size() ? bytes_[offset] : std::byte{0xff};
        if (offset == live_status && interrupt_status_.load(std::memory_order_relaxed))
            byte |= std::byte{status_interrupt};
        ++offset;
    }
}

void ConfigSpace::write(unsigned offset, std::span<const std::byte> data) noexcept {
    const std::uint64_t start = offset;
    for (const auto value : data) {
        if (offset >= size())
            break;
        auto& byte = bytes_[offset];
        byte = (byte & ~writable_[offset]) | (value & writable_[offset]);
        ++offset;
    }
    publish_command();
    for (const auto& watch : watches_)
        if (start < std::uint64_t{watch.offset} + watch.size && watch.offset < start + data.size())
            watch.changed();
}

void ConfigSpace::watch(unsigned offset, unsigned size, std::function<void()> changed) {
    watches_.push_back({offset, size, std::move(changed)});
}

void ConfigSpace::state(State& state) {
    std::vector<std::byte> bytes = bytes_;
    state.version(1);
    state.bytes("registers", std::span{bytes});
    atomic_flag(state, "interrupt_status", interrupt_status_);
    const auto differs = [&](std::size_t at) { return ((bytes[at] ^ bytes_[at]) & ~writable_[at]) != std::byte{0}; };
    for (std::size_t at = 0; state.ok() && at < bytes.size(); ++at)
        state.check(!differs(at), format("its register %#zx is another device's", at).c_str());
    if (!state.restores() || !state.ok())
        return;
    bytes_ = std::move(bytes);
    publish_command();
    for (const auto& watch : watches_)
        watch.changed();
}

Result<unsigned> ConfigSpace::add_capability(std::uint8_t id, std::span<const std::byte> body,
                                             std::span<const std::byte> writable) {
    constexpr unsigned header = 2;
    const auto offset = find_room(capabilities_start, conventional, header + body.size());
    if (!offset)
        return fail(Errc::no_resource, format("no room for PCI capability 0x%02x in configuration space", id));
    fill(*offset, header, body, writable);
    link_capability(*offset, id);
    return *offset;
}

void ConfigSpace::link_capability(unsigned offset, std::uint8_t id) {
    set<std::uint16_t>(offset, id);
    const unsigned pointer = last_capability_ ? last_capability_ + 1 : reg::capabilities;
    set(pointer, static_cast<std::uint8_t>(offset));
    set<std::uint16_t>(reg::status, get<std::uint16_t>(reg::status) | status_capabilities);
    last_capability_ = offset;
}

Result<unsigned> ConfigSpace::add_extended_capability(std::uint16_t id, std::uint8_t version,
                                                      std::span<const std::byte> body,
                                                      std::span<const std::byte> writable) {
    constexpr unsigned header = 4;
    const auto offset = find_room(extended_start, size(), header + body.size());
    if (!offset)
        return fail(Errc::no_resource, format("no room for PCI extended capability 0x%04x in configuration space", id));
    fill(*offset, header, body, writable);
    link_extended_capability(*offset, id, version);
    return *offset;
}

void ConfigSpace::link_extended_capability(unsigned offset, std::uint16_t id, std::uint8_t version) {
    constexpr std::uint32_t null_capability = 0x10000; // id 0, version 1 (PCIe 4.0, 7.9.28)
    if (!last_extended_capability_ && offset != extended_start) {
        set(extended_start, null_capability);
        last_extended_capability_ = extended_start;
    }
    set(offset, static_cast<std::uint32_t>(id | (version & 0xfU) << 16));
    if (last_extended_capability_)
        set(last_extended_capability_, get<std::uint32_t>(last_extended_capability_) | offset << 20);
    last_extended_capability_ = offset;
}

void ConfigSpace::reserve(unsigned offset, unsigned size) {
    for (unsigned dword = offset / 4; dword < (offset + size + 3) / 4; ++dword)
        used_[dword] = true;
}

std::optional<unsigned> ConfigSpace::find_room(unsigned from, unsigned limit, std::size_t size) const {
    const std::size_t needed = (size + 3) / 4;
    std::size_t free = 0;
    for (unsigned dword = from / 4; dword < limit / 4; ++dword) {
        free = used_[dword] ? 0 : free + 1;
        if (free == needed)
            return static_cast<unsigned>(dword + 1 - needed) * 4;
    }
    return std::nullopt;
}

void ConfigSpace::fill(unsigned offset, unsigned header, std::span<const std::byte> body,
                       std::span<const std::byte> writable) {
    reserve(offset, static_cast<unsigned>(header + body.size()));
    std::ranges::copy(body, bytes_.begin() + offset + header);
    std::ranges::copy(writable.first(std::min(writable.size(), body.size())), writable_.begin() + offset + header);
}

Result<void> ConfigSpace::add_bar(unsigned index, Bar bar) {
    const bool is_64_bit = bar.kind == BarKind::memory64;
    const bool fits = index < bar_count && !(is_64_bit && index + 1 >= rom_bar) &&
                      !(index == rom_bar && bar.kind != BarKind::memory32) && !bars_[index] && !upper_half(index) &&
                      !(is_64_bit && bars_[index + 1]);
    if (!fits)
        return fail(Errc::internal, format("BAR %u does not exist or is taken", index));
    if (!std::has_single_bit(bar.size) || bar.size < smallest(index, bar.kind) || bar.size > largest(bar.kind))
        return fail(Errc::internal, format("BAR %u cannot have a size of %#llx bytes", index, hex(bar.size)));
    bars_[index] = bar;
    const unsigned at = bar_register(index);
    const std::uint64_t mask = ~(bar.size - 1);
    allow_writes(at, static_cast<std::uint32_t>(mask));
    if (index == rom_bar) {
        allow_writes(at, rom_enable);
        return {};
    }
    std::uint32_t type = bar.kind == BarKind::io ? bar_io : 0;
    type |= is_64_bit ? bar_64_bit : 0;
    type |= bar.prefetchable ? bar_prefetchable : 0;
    set(at, type);
    if (is_64_bit)
        allow_writes(at + 4, static_cast<std::uint32_t>(mask >> 32));
    return {};
}

bool ConfigSpace::upper_half(unsigned index) const {
    return index > 0 && index < rom_bar && bars_[index - 1] && bars_[index - 1]->kind == BarKind::memory64;
}

std::uint64_t ConfigSpace::bar_address(unsigned index) const {
    const unsigned at = bar_register(index);
    const std::uint64_t low = get<std::uint32_t>(at);
    const std::uint64_t high = bars_[index]->kind == BarKind::memory64 ? get<std::uint32_t>(at + 4) : 0;
    return (high << 32 | low) & ~(bars_[index]->size - 1);
}

void ConfigSpace::set_bar_address(unsigned index, std::uint64_t address) {
    const unsigned at = bar_register(index);
    const auto mask = static_cast<std::uint32_t>(~(bars_[index]->size - 1));
    set(at, (get<std::uint32_t>(at) & ~mask) | (static_cast<std::uint32_t>(address) & mask));
    if (bars_[index]->kind == BarKind::memory64)
        set(at + 4, static_cast<std::uint32_t>(address >> 32));
}

bool ConfigSpace::bar_decoded(unsigned index) const {
    if (index == rom_bar && !(get<std::uint32_t>(reg::expansion_rom) & rom_enable))
        return false;
    return command() & (bars_[index]->kind == BarKind::io ? command_bit::io : command_bit::memory);
}

void ConfigSpace::set_multi_function(bool multi) {
    const auto type = get<std::uint8_t>(reg::header_type) & ~header_multi_function;
    set(reg::header_type, static_cast<std::uint8_t>(type | (multi ? header_multi_function : 0)));
}

} // namespace inox::devices::pci
