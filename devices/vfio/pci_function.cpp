// SPDX-License-Identifier: Apache-2.0
#include "devices/vfio/pci_function.hpp"

#include <algorithm>
#include <array>
#include <chrono>
#include <utility>

#include "devices/pci/root_bus.hpp"

namespace inox::devices::vfio {
namespace {

using Mode = InterruptWiring::Mode;
namespace reg = pci::reg;
namespace command_bit = pci::command_bit;

/// The bits of the command register that the guest sets on the device itself.
constexpr std::uint16_t forwarded_command =
    command_bit::bus_master | command_bit::parity | command_bit::serr | command_bit::intx_disable;

void fill_ones(std::span<std::byte> data) { std::ranges::fill(data, std::byte{0xff}); }
bool all_ones(std::span<const std::byte> data) {
    return std::ranges::all_of(data, [](std::byte one) { return one == std::byte{0xff}; });
}

/// Size of the next access: aligned, of 4, 2 or 1 bytes, and all of them with the same owner.
unsigned piece_size(unsigned offset, std::size_t left, const ConfigMap& map) {
    for (unsigned size = 4; size > 1; size /= 2) {
        if (offset % size != 0 || size > left)
            continue;
        bool whole = true;
        for (unsigned at = offset; at < offset + size; ++at)
            whole = whole && map.passed(at) != std::byte{0};
        if (whole)
            return size;
    }
    return 1;
}

} // namespace

PciFunction::~PciFunction() {
    leave_loop();
    wiring_.close();
    shared_.clear();
    bars_.close();
    if (!failed())
        write_command(0);
    dma_.reset();
    if (failed())
        return;
    for (const auto kind : {Interrupt::error, Interrupt::request})
        if (device_->interrupt(kind).count > 0)
            (void)device_->disable(kind);
    if (device_->can_reset() && !device_->reset_by_opening())
        (void)device_->reset(); // otherwise the kernel resets it when this object closes the device
}

void PciFunction::config_read(unsigned offset, std::span<std::byte> data) noexcept {
    if (failed() || data.size() > sizeof(std::uint64_t)) {
        fill_ones(data);
        return;
    }
    if (msi_)
        msi_->update_pending();
    config().read(offset, data);
    if (plan_->map.all_owned(offset, data.size()))
        return;
    std::array<std::byte, sizeof(std::uint64_t)> bytes{};
    const auto device = std::span{bytes}.first(data.size());
    if (!device_->read(region_config, offset, device)) {
        fill_ones(device);
        note_refusal("a read of configuration space");
    } else {
        note_ones(device);
    }
    for (std::size_t i = 0; i < data.size(); ++i)
        if (!plan_->map.owned(static_cast<unsigned>(offset + i)))
            data[i] = device[i];
}

void PciFunction::config_write(unsigned offset, std::span<const std::byte> data) noexcept {
    if (failed())
        return;
    config().write(offset, data);
    forward_config(offset, data);
    if (starts_reset(offset, data))
        forget_guest_state();
    sync_interrupts();
}

/// The device's memory and I/O decoding stays on: the guest's bits decide what the buses show, and without decoding the
/// host would end this process's access to the BARs.
void PciFunction::write_command(std::uint16_t bits) noexcept {
    std::array<std::byte, 2> value{};
    store_le(value, bits | decoding_);
    if (!device_->write(region_config, reg::command, value))
        note_refusal("a write of the command register");
}

void PciFunction::forward_command() noexcept {
    if (!failed())
        write_command(config().command() & forwarded_command);
}

void PciFunction::forward_config(unsigned offset, std::span<const std::byte> data) noexcept {
    for (std::size_t at = 0; at < data.size();) {
        const auto here = static_cast<unsigned>(offset + at);
        if (plan_->map.passed(here) == std::byte{0}) {
            ++at;
            continue;
        }
        const unsigned size = piece_size(here, data.size() - at, plan_->map);
        forward_piece(here, data.subspan(at, size));
        at += size;
    }
}

void PciFunction::forward_piece(unsigned offset, std::span<const std::byte> data) noexcept {
    std::array<std::byte, 4> bytes{};
    const auto value = std::span{bytes}.first(data.size());
    std::ranges::copy(data, value.begin());
    bool whole = true;
    for (std::size_t i = 0; i < data.size(); ++i)
        whole = whole && plan_->map.passed(static_cast<unsigned>(offset + i)) == std::byte{0xff};
    if (!whole) {
        if (!device_->read(region_config, offset, value))
            return note_refusal("a read of configuration space");
        for (std::size_t i = 0; i < data.size(); ++i) {
            const auto mask = plan_->map.passed(static_cast<unsigned>(offset + i));
            value[i] = (value[i] & ~mask) | (data[i] & mask);
        }
    }
    if (!device_->write(region_config, offset, value))
        note_refusal("a write of configuration space");
}

bool PciFunction::starts_reset(unsigned offset, std::span<const std::byte> data) const noexcept {
    const auto sets = [&](std::optional<unsigned> control, unsigned byte, std::byte bit) {
        return control && *control + byte >= offset && *control + byte < offset + data.size() &&
               (data[*control + byte - offset] & bit) != std::byte{0};
    };
    return sets(plan_->express_control, 1, std::byte{0x80}) || sets(plan_->features_control, 0, std::byte{0x01});
}

/// Called when the guest has reset the function: sets inox's copy of its state to what a reset leaves.
void PciFunction::forget_guest_state() noexcept {
    config().set<std::uint16_t>(reg::command, 0);
    if (msi_)
        msi_->reset();
    if (msix_) {
        config().set<std::uint16_t>(*plan_->msix + 2, static_cast<std::uint16_t>(msix_->layout().vectors - 1));
        msix_->reset();
    }
    forward_command();
}

void PciFunction::sync_interrupts() noexcept {
    const bool msi = msi_ && msi_->enabled();
    const bool msix = msix_ && msix_->enabled();
    if (msi && msix && wanted_ != Mode::msix && limiter_.allow())
        log::write(log::Level::warning, "%s: the guest enabled MSI and MSI-X at once: it gets MSI-X only",
                   name_.c_str());
    const Mode wanted = msix ? Mode::msix : msi ? Mode::msi : line_ ? Mode::intx : Mode::none;
    if (wanted == wanted_ && wanted != Mode::msi)
        return;
    wanted_ = wanted;
    switch (wanted) {
    case Mode::msix:
        return wiring_.use_msix();
    case Mode::msi:
        return wiring_.use_msi(msi_->eventfds());
    case Mode::intx:
        return wiring_.use_intx(line_->trigger_fd(), line_->resample_fd());
    case Mode::none:
        return wiring_.use_none();
    }
}

void PciFunction::bar_read(unsigned bar, std::uint64_t offset, std::span<std::byte> data) noexcept {
    trapped_.fetch_add(1, std::memory_order_relaxed);
    if (failed() || bar == msix_moved_to_) {
        fill_ones(data);
        if (!failed())
            msix_->bar_read(bar, offset, data);
        return;
    }
    if (msix_ && msix_->bar_read(bar, offset, data))
        return;
    if (!device_->read(bar, offset, data)) {
        fill_ones(data);
        note_refusal("a read of a BAR");
    } else {
        note_ones(data);
    }
}

void PciFunction::bar_write(unsigned bar, std::uint64_t offset, std::span<const std::byte> data) noexcept {
    trapped_.fetch_add(1, std::memory_order_relaxed);
    if (failed() || (msix_ && msix_->bar_write(bar, offset, data)) || bar == msix_moved_to_ || bar == pci::rom_bar)
        return;
    if (!device_->write(bar, offset, data))
        note_refusal("a write to a BAR");
}

Result<void> PciFunction::on_added(pci::Address address) {
    if (const auto pin = config().interrupt_pin())
        line_ = TRY(context_.irqs.line(pci::intx_gsi(address.slot, pin), TriggerMode::level));
    sync_interrupts();
    return attach(address);
}

Result<void> PciFunction::attach(pci::Address address) {
    if (context_.attach_dma && !dma_)
        dma_ = TRY(context_.attach_dma(address));
    return {};
}

/// The guest released the device, perhaps on a vCPU's thread.
void PciFunction::on_removed() noexcept {
    wiring_.close();
    if (!failed())
        write_command(0); // ends its DMA
    context_.loop.post([weak = weak_from_this()] {
        if (const auto self = weak.lock())
            self->leave_loop();
    });
}

void PciFunction::on_bar_mapped(unsigned bar, Gpa address) noexcept {
    bars_.show(bar, address);
    share_bars_later();
}

void PciFunction::on_bar_unmapped(unsigned bar) noexcept {
    bars_.hide(bar);
    share_bars_later();
}

/// Posted once, however often a guest turns memory decoding on and off meanwhile.
void PciFunction::share_bars_later() noexcept {
    if (context_.share_bar)
        later_.post(context_.loop, 0, weak_from_this(), [](PciFunction& self) { self.share_bars_apart(); });
}

/// `this` is safe here: the function's end is queued on the same thread, behind this work.
void PciFunction::share_bars_apart() {
    if (!context_.apart)
        return share_bars();
    if (!sharing_.exchange(true))
        context_.apart([this] {
            sharing_ = false; // cleared first, so that a request from now on counts as new
            share_bars();
        });
}

/// Runs a moment after the guest sees the BARs. That is soon enough, because a driver sets up transfers between devices
/// after placing them.
void PciFunction::share_bars() {
    if (stopped_ || failed())
        return shared_.clear();
    if (!context_.share_bar)
        return;
    const auto shown = bars_.shown();
    std::erase_if(shared_, [&](const auto& entry) {
        return std::ranges::none_of(shown, [&](const auto& one) { return one.range == entry.second.range; });
    });
    for (const auto& [range, host] : shown)
        if (!shared_.contains(range.start().raw()))
            if (auto registration = context_.share_bar(range, host, name_))
                shared_.emplace(range.start().raw(), Shared{range, std::move(registration)});
}

/// Whether the host can no longer reach the device. VFIO answers the vendor and device id from a copy, so they prove
/// nothing. Class, revision and link status are read from the device, and an absent device reads as ones.
bool PciFunction::lost() const noexcept {
    std::array<std::byte, 4> bytes{};
    const auto silent = [&](unsigned at, std::size_t size) {
        const auto part = std::span{bytes}.first(size);
        return !device_->read(region_config, at, part) || all_ones(part);
    };
    return silent(reg::revision, 4) || (plan_->link_status && silent(*plan_->link_status, 2));
}

/// Refusing one access does not prove that the device is gone, so this checks.
void PciFunction::note_refusal(const char* what) noexcept {
    if (failed() || !limiter_.allow())
        return;
    if (lost())
        return note_loss();
    log::write(log::Level::warning, "%s: the host refused %s", name_.c_str(), what);
}

/// One register may legitimately hold ones; on a device that is gone, everything does.
void PciFunction::note_ones(std::span<const std::byte> data) noexcept {
    if (data.size() >= 2 && all_ones(data) && !failed() && ones_limiter_.allow() && lost())
        note_loss();
}

/// Some resets by a guest's driver take the device away for a moment, so it has a second to come back.
void PciFunction::note_loss() noexcept {
    context_.loop.post([weak = weak_from_this()] {
        const auto self = weak.lock();
        if (!self || self->stopped_ || std::exchange(self->seems_lost_, true))
            return;
        self->loss_check_ = self->context_.loop.after(std::chrono::seconds{1}, [self = self.get()] {
            self->seems_lost_ = false;
            if (self->lost())
                self->fail(gone_text);
        });
    });
}

void PciFunction::fail(const std::string& why) {
    if (stopped_ || failed_.exchange(true, std::memory_order_acq_rel))
        return;
    wiring_.close();
    share_bars_apart();
    bars_.close();
    write_command(0);
    const auto text = name_ + " failed: " + why + "; the guest continues without it";
    log::write(log::Level::error, "%s", text.c_str());
    if (context_.on_event)
        context_.on_event({HostDeviceEvent::What::failed, text});
}

void PciFunction::leave_loop() noexcept {
    if (stopped_.exchange(true))
        return;
    log::write(log::Level::info, "%s: inox served %llu accesses to its BARs", name_.c_str(),
               static_cast<unsigned long long>(trapped()));
    watches_.clear();
    loss_check_.reset();
}

} // namespace inox::devices::vfio
