// SPDX-License-Identifier: Apache-2.0
#include "devices/pci/msi.hpp"

#include <algorithm>
#include <bit>

#include "vmm/base/hex.hpp"

namespace inox::devices::pci {
namespace {

constexpr unsigned control_offset = 2;
constexpr unsigned address_offset = 4;
constexpr std::uint16_t control_enable = 1 << 0;
constexpr unsigned capable_shift = 1; // log2 of the vectors the function has
constexpr unsigned enabled_shift = 4; // log2 of those the guest uses
constexpr std::uint16_t count_mask = 7;
constexpr std::uint16_t control_wide = 1 << 7;
constexpr std::uint16_t control_maskable = 1 << 8;
constexpr unsigned most_vectors = 32;

} // namespace

MsiLayout MsiLayout::decode(unsigned offset, std::uint16_t control) {
    const unsigned vectors = 1U << (control >> capable_shift & count_mask);
    return {.offset = offset,
            .vectors = std::min(vectors, most_vectors),
            .wide = (control & control_wide) != 0,
            .maskable = (control & control_maskable) != 0};
}

std::uint16_t MsiLayout::control() const {
    const auto capable = static_cast<unsigned>(std::countr_zero(vectors)) << capable_shift;
    return static_cast<std::uint16_t>(capable | (wide ? control_wide : 0U) | (maskable ? control_maskable : 0U));
}

void Msi::install(ConfigSpace& config) {
    config_ = &config;
    config.reserve(layout_.offset, layout_.size());
    for (unsigned at = layout_.offset + control_offset; at < layout_.offset + layout_.size(); ++at)
        config.set<std::uint8_t>(at, 0);
    const unsigned control = layout_.offset + control_offset;
    config.set<std::uint16_t>(control, layout_.control());
    config.allow_writes<std::uint16_t>(control, control_enable | count_mask << enabled_shift);
    config.allow_writes<std::uint32_t>(layout_.offset + address_offset, ~std::uint32_t{3});
    if (layout_.wide)
        config.allow_writes<std::uint32_t>(layout_.offset + address_offset + 4, ~std::uint32_t{0});
    config.allow_writes<std::uint16_t>(layout_.data(), 0xffff);
    if (layout_.maskable)
        config.allow_writes<std::uint32_t>(layout_.mask(),
                                           static_cast<std::uint32_t>((std::uint64_t{1} << layout_.vectors) - 1));
    config.watch(control, layout_.size() - control_offset, [this] { update(); });
}

void Msi::update() noexcept {
    const auto control = config_->get<std::uint16_t>(layout_.offset + control_offset);
    enabled_ = control & control_enable;
    const unsigned wanted = std::min(1U << (control >> enabled_shift & count_mask), layout_.vectors);
    const unsigned count = enabled_ ? wanted : 0;
    for (unsigned index = count; index < eventfds_.size(); ++index)
        stop(index);
    eventfds_.resize(count, -1);
    if (count == 0)
        return;
    MsiMessage message;
    message.address = config_->get<std::uint32_t>(layout_.offset + address_offset);
    if (layout_.wide)
        message.address |= std::uint64_t{config_->get<std::uint32_t>(layout_.offset + address_offset + 4)} << 32;
    const std::uint32_t data = config_->get<std::uint16_t>(layout_.data()) & ~(count - 1);
    const std::uint32_t mask = layout_.maskable ? config_->get<std::uint32_t>(layout_.mask()) : 0;
    for (unsigned index = 0; index < count; ++index) {
        message.data = data | index;
        const auto started = start(index, message, mask >> index & 1);
        // Linux writes zeros when it frees an interrupt while MSI is still on: that needs no warning.
        if (!started && message.address != 0 && limiter_.allow())
            log::write(log::Level::warning, "MSI vector %u delivers no interrupts: %s", index,
                       started.error().message().c_str());
        if (!started)
            stop(index);
        eventfds_[index] = started.value_or(-1);
    }
}

Result<int> Msi::start(unsigned index, MsiMessage message, bool masked) {
    if (!is_interrupt(message))
        return fail(Errc::not_found, format("the guest gave it the address %#llx, which is not an interrupt address",
                                            hex(message.address)));
    if (index >= vectors_.size())
        vectors_.resize(index + 1);
    auto& vector = vectors_[index];
    if (!vector)
        vector = TRY(irqs_.msi());
    TRY_VOID(vector->route(message));
    TRY_VOID(vector->enable(!masked));
    return vector->trigger_fd();
}

void Msi::stop(unsigned index) noexcept {
    if (index >= vectors_.size() || !vectors_[index])
        return;
    if (const auto done = vectors_[index]->enable(false); !done && limiter_.allow())
        log::write(log::Level::warning, "MSI vector %u cannot be turned off: %s", index,
                   done.error().message().c_str());
}

void Msi::update_pending() noexcept {
    if (!layout_.maskable)
        return;
    std::uint32_t bits = 0;
    for (unsigned index = 0; index < eventfds_.size(); ++index)
        if (eventfds_[index] >= 0 && vectors_[index]->pending())
            bits |= 1U << index;
    config_->set<std::uint32_t>(layout_.pending(), bits);
}

void Msi::reset() noexcept {
    for (unsigned at = layout_.offset + control_offset; at < layout_.offset + layout_.size(); ++at)
        config_->set<std::uint8_t>(at, 0);
    config_->set<std::uint16_t>(layout_.offset + control_offset, layout_.control());
    update();
}

} // namespace inox::devices::pci
