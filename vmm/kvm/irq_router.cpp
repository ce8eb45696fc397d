// SPDX-License-Identifier: Apache-2.0
#include "vmm/kvm/irq_router.hpp"

#include <algorithm>
#include <poll.h>

#include "vmm/base/log.hpp"
#include "vmm/kvm/lists.hpp"
#include "vmm/memory/layout.hpp"

namespace inox {
namespace {

class Line final : public IrqLine {
public:
    Line(IrqRouter& router, unsigned gsi, EventFd event, std::optional<EventFd> resample)
        : router_{router}, gsi_{gsi}, event_{std::move(event)}, resample_{std::move(resample)} {}
    ~Line() override { router_.detach(gsi_, event_); }
    void trigger() noexcept override { event_.signal(); }
    [[nodiscard]] int trigger_fd() const override { return event_.fd(); }
    [[nodiscard]] int resample_fd() const override { return resample_ ? resample_->fd() : -1; }

private:
    IrqRouter& router_;
    unsigned gsi_;
    EventFd event_;
    std::optional<EventFd> resample_;
};

class Vector final : public MsiVector {
public:
    Vector(IrqRouter& router, unsigned gsi, EventFd event) : router_{router}, gsi_{gsi}, event_{std::move(event)} {}
    ~Vector() override {
        if (enabled_)
            router_.detach(gsi_, event_);
        router_.release(gsi_);
    }
    Result<void> route(MsiMessage message) override {
        if (message_ == message)
            return {};
        message_ = message;
        return routed_ ? router_.set(gsi_, message) : Result<void>{};
    }
    Result<void> enable(bool enabled) override {
        if (enabled == enabled_)
            return {};
        if (!enabled) {
            router_.detach(gsi_, event_);
            enabled_ = false;
            return {};
        }
        if (!routed_) {
            TRY_VOID(router_.set(gsi_, message_));
            routed_ = true;
        }
        // KVM would deliver a count that is already there but not clear it, so it is cleared and signalled again.
        const bool was_pending = event_.drain() != 0;
        TRY_VOID(router_.attach(gsi_, event_, -1));
        enabled_ = true;
        if (was_pending)
            event_.signal();
        return {};
    }
    void trigger() noexcept override { event_.signal(); }
    [[nodiscard]] int trigger_fd() const override { return event_.fd(); }
    [[nodiscard]] bool pending() const override {
        pollfd poll{event_.fd(), POLLIN, 0};
        return !enabled_ && ::poll(&poll, 1, 0) == 1;
    }

private:
    IrqRouter& router_;
    unsigned gsi_;
    EventFd event_;
    MsiMessage message_{};
    bool routed_{false};
    bool enabled_{false};
};

kvm_irq_routing_entry chip_entry(unsigned gsi, unsigned chip, unsigned pin) {
    kvm_irq_routing_entry entry{};
    entry.gsi = gsi;
    entry.type = KVM_IRQ_ROUTING_IRQCHIP;
    entry.u.irqchip.irqchip = chip;
    entry.u.irqchip.pin = pin;
    return entry;
}

kvm_irq_routing_entry msi_entry(unsigned gsi, MsiMessage message) {
    kvm_irq_routing_entry entry{};
    entry.gsi = gsi;
    entry.type = KVM_IRQ_ROUTING_MSI;
    entry.u.msi.address_lo = static_cast<std::uint32_t>(message.address);
    entry.u.msi.address_hi = static_cast<std::uint32_t>(message.address >> 32);
    entry.u.msi.data = message.data;
    return entry;
}

} // namespace

IrqRouter::IrqRouter(int vm_fd, unsigned capacity) : vm_fd_{vm_fd}, capacity_{capacity} {}

Result<std::unique_ptr<IrqLine>> IrqRouter::line(unsigned gsi, TriggerMode mode) {
    auto event = TRY(EventFd::create());
    std::optional<EventFd> resample;
    if (mode == TriggerMode::level)
        resample = TRY(EventFd::create());
    TRY_VOID(attach(gsi, event, resample ? resample->fd() : -1));
    return std::make_unique<Line>(*this, gsi, std::move(event), std::move(resample));
}

Result<std::unique_ptr<MsiVector>> IrqRouter::msi() {
    auto event = TRY(EventFd::create());
    std::lock_guard lock{mutex_};
    const auto free = std::find(used_.begin(), used_.end(), false);
    const auto index = static_cast<std::size_t>(free - used_.begin());
    const auto gsi = layout::first_msi_gsi + static_cast<unsigned>(index);
    if (free == used_.end()) {
        // The pins of the I/O APIC and the two 8259s take 24 + 16 routes.
        if (gsi + layout::io_apic_pins + 16 >= capacity_)
            return fail(Errc::no_resource, format("all %u interrupt routes of this VM are in use", capacity_),
                        "use fewer devices or fewer queues");
        used_.push_back(true);
    } else {
        *free = true;
    }
    return std::make_unique<Vector>(*this, gsi, std::move(event));
}

std::vector<IrqRouter::Route> IrqRouter::routes() const {
    std::lock_guard lock{mutex_};
    std::vector<Route> out;
    for (const auto& [gsi, message] : messages_)
        out.push_back({gsi, message});
    return out;
}

Result<void> IrqRouter::set(unsigned gsi, MsiMessage message) {
    std::lock_guard lock{mutex_};
    messages_[gsi] = message;
    return apply();
}

void IrqRouter::release(unsigned gsi) {
    // The stale route stays in KVM until the next change; nothing can signal it.
    std::lock_guard lock{mutex_};
    messages_.erase(gsi);
    used_[gsi - layout::first_msi_gsi] = false;
}

Result<void> IrqRouter::apply() {
    std::vector<kvm_irq_routing_entry> entries;
    for (unsigned gsi = 0; gsi < 16; ++gsi)
        entries.push_back(chip_entry(gsi, gsi < 8 ? KVM_IRQCHIP_PIC_MASTER : KVM_IRQCHIP_PIC_SLAVE, gsi % 8));
    for (unsigned gsi = 0; gsi < layout::io_apic_pins; ++gsi)
        entries.push_back(chip_entry(gsi, KVM_IRQCHIP_IOAPIC, gsi));
    for (const auto& [gsi, message] : messages_)
        entries.push_back(msi_entry(gsi, message));
    TRY_VOID(kvm_list::send(vm_fd_, kvm_list::set_gsi_routing, std::span<const kvm_irq_routing_entry>{entries},
                            "KVM_SET_GSI_ROUTING"));
    return {};
}

Result<void> IrqRouter::attach(unsigned gsi, const EventFd& event, int resample_fd) const {
    kvm_irqfd irqfd{};
    irqfd.fd = static_cast<std::uint32_t>(event.fd());
    irqfd.gsi = gsi;
    if (resample_fd >= 0) {
        irqfd.flags = KVM_IRQFD_FLAG_RESAMPLE;
        irqfd.resamplefd = static_cast<std::uint32_t>(resample_fd);
    }
    TRY_VOID(checked_ioctl(vm_fd_, KVM_IRQFD, &irqfd, "KVM_IRQFD"));
    return {};
}

void IrqRouter::detach(unsigned gsi, const EventFd& event) const {
    kvm_irqfd irqfd{};
    irqfd.fd = static_cast<std::uint32_t>(event.fd());
    irqfd.gsi = gsi;
    irqfd.flags = KVM_IRQFD_FLAG_DEASSIGN;
    if (auto done = checked_ioctl(vm_fd_, KVM_IRQFD, &irqfd, "KVM_IRQFD"); !done)
        log::write(log::Level::warning, "detaching gsi %u: %s", gsi, done.error().message().c_str());
}

} // namespace inox
