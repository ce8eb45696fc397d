// SPDX-License-Identifier: Apache-2.0
#include "devices/pci/msix.hpp"

#include <algorithm>
#include <array>
#include <utility>

#include "devices/pci/msi.hpp"
#include "vmm/base/hex.hpp"
#include "vmm/base/state.hpp"

namespace inox::devices::pci {
namespace {

constexpr std::uint8_t capability_id = 0x11;
constexpr unsigned control_offset = 2;
constexpr std::uint16_t control_enable = 1 << 15;
constexpr std::uint16_t control_mask = 1 << 14;
constexpr std::uint64_t entry_size = 16;
constexpr std::uint32_t entry_masked = 1;

enum class Hit { outside, inside, astride };

Hit locate(std::uint64_t start, std::uint64_t size, std::uint64_t offset, std::size_t length) {
    if (offset >= start + size || offset + length <= start)
        return Hit::outside;
    return offset >= start && offset + length <= start + size ? Hit::inside : Hit::astride;
}

} // namespace

Msix::Msix(Irqs& irqs, const MsixLayout& layout) : irqs_{irqs}, layout_{layout}, entries_(layout.vectors) {}

Result<unsigned> Msix::add_capability(ConfigSpace& config) {
    std::array<std::byte, 10> body{};
    std::array<std::byte, 10> writable{};
    const std::span bytes{body};
    store_le(bytes.subspan(0, 2), layout_.vectors - 1U);
    store_le(bytes.subspan(2, 4), layout_.table_offset | layout_.table_bar);
    store_le(bytes.subspan(6, 4), layout_.pba_offset | layout_.pba_bar);
    store_le(std::span{writable}.first(2), control_enable | control_mask);
    const unsigned offset = TRY(config.add_capability(capability_id, body, writable));
    watch_capability(config, offset);
    return offset;
}

void Msix::watch_capability(ConfigSpace& config, unsigned offset) {
    const unsigned control = offset + control_offset;
    config.watch(control, 2, [this, &config, control] { set_control(config.get<std::uint16_t>(control)); });
}

bool Msix::bar_read(unsigned bar, std::uint64_t offset, std::span<std::byte> data) noexcept {
    const auto table = bar == layout_.table_bar
                           ? locate(layout_.table_offset, layout_.table_size(), offset, data.size())
                           : Hit::outside;
    const auto pba =
        bar == layout_.pba_bar ? locate(layout_.pba_offset, layout_.pba_size(), offset, data.size()) : Hit::outside;
    if (table == Hit::outside && pba == Hit::outside)
        return false;
    const std::lock_guard lock{mutex_};
    for (auto& byte : data) {
        if (table == Hit::inside)
            byte = table_byte(offset - layout_.table_offset);
        else if (pba == Hit::inside)
            byte = pending_byte(offset - layout_.pba_offset);
        else
            byte = std::byte{0xff};
        ++offset;
    }
    return true;
}

bool Msix::bar_write(unsigned bar, std::uint64_t offset, std::span<const std::byte> data) noexcept {
    if (bar == layout_.pba_bar && locate(layout_.pba_offset, layout_.pba_size(), offset, data.size()) != Hit::outside)
        return true; // read-only
    const auto table = bar == layout_.table_bar
                           ? locate(layout_.table_offset, layout_.table_size(), offset, data.size())
                           : Hit::outside;
    if (table == Hit::outside)
        return false;
    // Other widths are undefined (6.8.2): nothing changes.
    const bool defined = (data.size() == 4 || data.size() == 8) && offset % data.size() == 0;
    if (table != Hit::inside || !defined)
        return true;
    const std::lock_guard lock{mutex_};
    const std::uint64_t at = offset - layout_.table_offset;
    for (std::size_t done = 0; done < data.size(); done += 4)
        set_table_dword(at + done, load_le<std::uint32_t>(data.subspan(done, 4)));
    update(static_cast<unsigned>(at / entry_size));
    return true;
}

void Msix::trigger(unsigned vector) noexcept {
    const std::lock_guard lock{mutex_};
    if (vector >= entries_.size() || !enabled_)
        return;
    auto& entry = entries_[vector];
    if (entry.live)
        entry.vector->trigger();
    else
        entry.pending = true;
}

Result<int> Msix::trigger_fd(unsigned vector) {
    const std::lock_guard lock{mutex_};
    if (vector >= entries_.size())
        return fail(Errc::not_found, format("there is no MSI-X vector %u", vector));
    TRY_VOID(create_vector(entries_[vector]));
    return entries_[vector].vector->trigger_fd();
}

bool Msix::enabled() const {
    const std::lock_guard lock{mutex_};
    return enabled_;
}

void Msix::reset() noexcept {
    const std::lock_guard lock{mutex_};
    enabled_ = false;
    function_masked_ = false;
    for (unsigned index = 0; index < entries_.size(); ++index) {
        update(index);
        entries_[index].message = {};
        entries_[index].masked = true;
        entries_[index].pending = false;
    }
}

void Msix::state(State& state) {
    struct Saved {
        MsiMessage message{};
        bool masked{};
        bool pending{};
    };
    const std::lock_guard lock{mutex_};
    std::vector<Saved> saved;
    for (const auto& entry : entries_)
        saved.push_back({entry.message, entry.masked, is_pending(entry)});
    state.version(1);
    state.list("vectors", saved, entries_.size(), [](State& one, Saved& entry) {
        one.number("address", entry.message.address);
        one.number("data", entry.message.data);
        one.flag("masked", entry.masked);
        one.flag("pending", entry.pending);
        one.check((entry.message.address & 3) == 0, "an address that the table cannot hold");
    });
    state.check(saved.size() == entries_.size(), "another number of MSI-X vectors");
    if (!state.restores() || !state.ok())
        return;
    for (unsigned index = 0; index < saved.size(); ++index) {
        auto& entry = entries_[index];
        entry.message = saved[index].message;
        entry.masked = saved[index].masked;
        entry.pending = false; // becoming live would interrupt
        update(index);
        entry.pending = saved[index].pending;
    }
}

void Msix::resume() noexcept {
    const std::lock_guard lock{mutex_};
    for (auto& entry : entries_)
        if (entry.live && std::exchange(entry.pending, false))
            entry.vector->trigger();
}

void Msix::set_control(std::uint16_t control) noexcept {
    const std::lock_guard lock{mutex_};
    enabled_ = control & control_enable;
    function_masked_ = control & control_mask;
    for (unsigned index = 0; index < entries_.size(); ++index) {
        update(index);
        if (!enabled_)
            entries_[index].pending = false;
    }
}

std::byte Msix::table_byte(std::uint64_t offset) const {
    const auto& entry = entries_[offset / entry_size];
    const std::uint64_t at = offset % entry_size;
    const std::uint64_t second = std::uint64_t{entry.masked} << 32 | entry.message.data;
    const std::uint64_t half = at < 8 ? entry.message.address : second;
    return static_cast<std::byte>(half >> (8 * (at % 8)) & 0xff);
}

void Msix::set_table_dword(std::uint64_t offset, std::uint32_t value) noexcept {
    constexpr std::uint64_t low = 0xffffffff;
    auto& entry = entries_[offset / entry_size];
    switch (offset % entry_size / 4) {
    case 0:
        entry.message.address = (entry.message.address & ~low) | (value & ~3U);
        break;
    case 1:
        entry.message.address = (entry.message.address & low) | std::uint64_t{value} << 32;
        break;
    case 2:
        entry.message.data = value;
        break;
    default:
        entry.masked = value & entry_masked;
    }
}

std::byte Msix::pending_byte(std::uint64_t offset) const {
    unsigned bits = 0;
    for (unsigned bit = 0; bit < 8; ++bit) {
        const std::uint64_t index = offset * 8 + bit;
        if (index >= entries_.size())
            break;
        if (is_pending(entries_[index]))
            bits |= 1U << bit;
    }
    return static_cast<std::byte>(bits);
}

bool Msix::is_pending(const Entry& entry) const {
    return entry.pending || (enabled_ && !entry.live && entry.vector && entry.vector->pending());
}

void Msix::update(unsigned index) noexcept {
    auto& entry = entries_[index];
    const bool live = enabled_ && !function_masked_ && !entry.masked;
    if (live && (!entry.live || entry.message != entry.routed))
        go_live(index);
    else if (!live && entry.live)
        stop(index);
}

/// Makes the vector live, or changes where a live one is sent. Without host resources it stays silent, as if masked.
void Msix::go_live(unsigned index) noexcept {
    auto& entry = entries_[index];
    if (const auto done = route(entry); !done) {
        if (limiter_.allow())
            log::write(log::Level::warning, "MSI-X vector %u delivers no interrupts: %s", index,
                       done.error().message().c_str());
        if (entry.live)
            stop(index);
        return;
    }
    const bool was_live = std::exchange(entry.live, true);
    if (std::exchange(entry.pending, false))
        entry.vector->trigger();
    if (!was_live && on_vector_)
        on_vector_(index, true, entry.vector->trigger_fd());
}

Result<void> Msix::route(Entry& entry) {
    if (!is_interrupt(entry.message))
        return fail(Errc::not_found, format("the guest gave it the address %#llx, which is not an interrupt address",
                                            hex(entry.message.address)));
    TRY_VOID(create_vector(entry));
    if (entry.message != entry.routed) {
        TRY_VOID(entry.vector->route(entry.message));
        entry.routed = entry.message;
    }
    if (!entry.live)
        TRY_VOID(entry.vector->enable(true));
    return {};
}

void Msix::stop(unsigned index) noexcept {
    auto& entry = entries_[index];
    entry.live = false;
    if (const auto done = entry.vector->enable(false); !done && limiter_.allow())
        log::write(log::Level::warning, "MSI-X vector %u cannot be masked: %s", index, done.error().message().c_str());
    if (on_vector_)
        on_vector_(index, false, entry.vector->trigger_fd());
}

Result<void> Msix::create_vector(Entry& entry) {
    if (!entry.vector)
        entry.vector = TRY(irqs_.msi());
    return {};
}

} // namespace inox::devices::pci
