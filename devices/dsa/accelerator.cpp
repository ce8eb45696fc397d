// SPDX-License-Identifier: Apache-2.0
// Life, registers and portals.
#include "devices/dsa/accelerator.hpp"
#include "vmm/base/hex.hpp"
#include "vmm/base/thread_failure.hpp"
#include "vmm/base/thread_kind.hpp"

#include <algorithm>
#include <system_error>

namespace inox::devices::dsa {
namespace {

constexpr std::uint32_t command_reserved = 0x7ff00000; // of a descriptor's first word
constexpr std::uint32_t privileged_bit = 1U << 31;

constexpr std::uint32_t low(std::uint64_t value) { return static_cast<std::uint32_t>(value); }
constexpr std::uint32_t high(std::uint64_t value) { return static_cast<std::uint32_t>(value >> 32); }

/// One half of a 64-bit register.
constexpr std::uint32_t half(std::uint64_t value, std::uint64_t offset) {
    return offset % 8 == 0 ? low(value) : high(value);
}

constexpr std::uint64_t table_offsets = reg::grpcfg / 0x100 | reg::wqcfg / 0x100 << 16 | reg::msix_perm / 0x100 << 32;

// Words of a group's configuration, 4 bytes each.
constexpr unsigned group_words = group_stride / 4;
constexpr unsigned flags_word = 10;
constexpr std::uint32_t group_flags_mask = 0x0ff0ffbf;

} // namespace

Accelerator::Accelerator(const Shape& shape, AcceleratorContext context)
    : shape_{shape}, context_{std::move(context)}, queues_(shape.queues) {
    for (unsigned i = 0; i < shape.engines; ++i) {
        auto& engine = *engines_.emplace_back(std::make_unique<Engine>(*this));
        engine.copier = context_.make_copier ? context_.make_copier() : std::make_unique<CpuCopier>();
    }
}

Accelerator::~Accelerator() {
    stop();
    for (auto& engine : engines_)
        if (engine->thread.joinable())
            engine->thread.join();
}

Result<void> Accelerator::start() {
    try {
        for (auto& engine : engines_)
            engine->thread = std::thread{[this, own = engine.get()] {
                enter_thread(ThreadKind::engine, "dsa-engine");
                work(*own);
            }};
    } catch (const std::system_error& error) {
        return fail_thread("a thread of the accelerator", error);
    }
    return {};
}

void Accelerator::stop() noexcept {
    const std::lock_guard lock{mutex_};
    stopping_ = true;
    abort(~0U, {});
    for (auto& queue : queues_)
        queue.revoke();
    permissions_ = {};
    work_.notify_all();
}

void Accelerator::pause() noexcept {
    std::unique_lock lock{mutex_};
    paused_ = true;
    interrupt_engines();
    rested_.wait(lock, [&] { return std::ranges::all_of(engines_, [](const auto& one) { return one->at_rest; }); });
}

void Accelerator::resume() noexcept {
    const std::lock_guard lock{mutex_};
    paused_ = false;
    interrupt_engines();
    work_.notify_all();
}

void Accelerator::set_bus_state(const BusState& state) noexcept {
    const std::lock_guard lock{mutex_};
    bus_ = state;
}

// Registers

void Accelerator::read(std::uint64_t offset, std::span<std::byte> data) noexcept {
    const std::lock_guard lock{mutex_};
    for (std::size_t at = 0; at < data.size();) {
        const std::uint64_t word = align_down(offset + at, 4);
        const std::uint64_t skip = offset + at - word;
        const auto part = std::min<std::size_t>(data.size() - at, 4 - skip);
        store_le(data.subspan(at, part), get(word) >> (8 * skip));
        at += part;
    }
}

void Accelerator::write(std::uint64_t offset, std::span<const std::byte> data) noexcept {
    if ((data.size() != 4 && data.size() != 8) || !is_aligned(offset, data.size()))
        return;
    Raise raise;
    {
        const std::lock_guard lock{mutex_};
        for (std::size_t at = 0; at < data.size(); at += 4)
            set(offset + at, load_le<std::uint32_t>(data.subspan(at, 4)), raise);
    }
    deliver(raise);
}

std::uint32_t Accelerator::get(std::uint64_t offset) const {
    if (offset >= reg::wqcfg && offset < reg::wqcfg + shape_.queues * queue_stride)
        return queues_[(offset - reg::wqcfg) / queue_stride].word(offset % queue_stride / 4);
    if (offset >= reg::grpcfg && offset < reg::grpcfg + shape_.engines * group_stride)
        return groups_[(offset - reg::grpcfg) / 4];
    if (offset >= reg::msix_perm && offset < reg::msix_perm + vectors() * 8U)
        return offset % 8 == 0 ? permissions_[(offset - reg::msix_perm) / 8].word : 0;
    if (offset >= reg::swerr && offset < reg::swerr + sizeof swerr_)
        return half(swerr_[(offset - reg::swerr) / 8], offset);
    switch (offset) {
    case reg::version:
        return 0x100;
    case reg::gencap:
    case reg::gencap + 4:
        return half(gencap_value, offset);
    case reg::wqcap:
    case reg::wqcap + 4:
        return half(wqcap_features | shape_.entries | std::uint64_t{shape_.queues} << 16, offset);
    case reg::grpcap:
    case reg::engcap:
        return shape_.engines;
    case reg::opcap:
        return low(supported_opcodes);
    case reg::table_offsets:
    case reg::table_offsets + 4:
        return half(table_offsets, offset);
    case reg::gencfg:
        return gencfg_;
    case reg::genctrl:
        return genctrl_;
    case reg::gensts:
        return static_cast<std::uint32_t>(state_);
    case reg::intcause:
        return intcause_;
    case reg::cmdsts:
        return cmdsts_;
    case reg::cmdcap:
        return cmdcap_value;
    default:
        return 0;
    }
}

void Accelerator::set(std::uint64_t offset, std::uint32_t value, Raise& raise) {
    const bool device_enabled = state_ != DeviceState::disabled;
    if (offset >= reg::wqcfg && offset < reg::wqcfg + shape_.queues * queue_stride)
        return queues_[(offset - reg::wqcfg) / queue_stride].write(offset % queue_stride / 4, value, device_enabled);
    if (offset >= reg::grpcfg && offset < reg::grpcfg + shape_.engines * group_stride) {
        const auto index = (offset - reg::grpcfg) / 4;
        const auto word = index % group_words;
        if (!device_enabled && word <= flags_word)
            groups_[index] = word == flags_word ? value & group_flags_mask : value;
        return;
    }
    if (offset >= reg::msix_perm && offset < reg::msix_perm + vectors() * 8U) {
        if (offset % 8 == 0)
            set_permission(static_cast<unsigned>(offset - reg::msix_perm) / 8, value);
        return;
    }
    switch (offset) {
    case reg::gencfg:
        if (!device_enabled)
            gencfg_ = value & gencfg_mask;
        return;
    case reg::genctrl:
        genctrl_ = value & genctrl_mask;
        return;
    case reg::intcause:
        intcause_ &= ~value;
        return;
    case reg::swerr:
        swerr_[0] &= ~(value & (swerr::valid | swerr::overflow));
        return;
    case reg::cmd:
        return begin_command(value, raise);
    default:
        return;
    }
}

/// Resolves the guest's PASID at once and keeps it, because a request for an interrupt names the host's.
void Accelerator::set_permission(unsigned vector, std::uint32_t value) {
    auto& permission = permissions_[vector];
    permission.word = value & permission_mask;
    permission.space.reset();
    if ((value & permission_pasid_enable) != 0 && context_.spaces)
        permission.space = context_.spaces->open(iommu::GuestPasid{value >> 12});
}

void Accelerator::set_cause(std::uint32_t bits, Raise& raise) {
    intcause_ |= bits;
    raise.vectors |= 1;
}

void Accelerator::report(const SoftwareError& error, Raise& raise) {
    if (limiter_.allow())
        log::write(log::Level::info, "dsa: software error %#x, queue %d, address %#llx", error.code,
                   error.queue ? static_cast<int>(*error.queue) : -1, hex(error.address));
    if ((swerr_[0] & swerr::valid) != 0) {
        swerr_[0] |= swerr::overflow; // the first error stays until the driver clears it
        return;
    }
    swerr_[0] = swerr::valid | (error.write ? swerr::write : 0) | std::uint64_t{error.code} << 8;
    if (error.queue)
        swerr_[0] |= swerr::queue_valid | std::uint64_t{*error.queue} << 16;
    if (error.descriptor)
        swerr_[0] |= swerr::descriptor_valid | (error.descriptor->privileged() ? swerr::privileged : 0) |
                     static_cast<std::uint64_t>(error.descriptor->opcode()) << 32 |
                     std::uint64_t{error.descriptor->pasid()} << 40;
    if (error.batch_index)
        swerr_[0] |= swerr::batch;
    swerr_[1] = error.batch_index.value_or(0);
    swerr_[2] = error.address;
    if ((genctrl_ & genctrl_error_interrupt) != 0)
        set_cause(cause::software_error, raise);
    else
        intcause_ |= cause::software_error;
}

void Accelerator::report_error(const SoftwareError& error) {
    Raise raise;
    {
        const std::lock_guard lock{mutex_};
        report(error, raise);
    }
    deliver(raise);
}

void Accelerator::deliver(const Raise& raise) const noexcept {
    for (unsigned vector = 0; vector < vectors(); ++vector)
        if ((raise.vectors >> vector & 1) != 0)
            context_.interrupt(vector);
}

// Portals

Accelerator::Reply Accelerator::enqueue(unsigned index, bool limited, const Descriptor& command) noexcept {
    Submission submission{command, {}, true, 0};
    std::optional<iommu::GuestPasid> guest;
    if (context_.spaces) {
        const iommu::HostPasid host{command.pasid()};
        submission.space = context_.spaces->open(host);
        guest = context_.spaces->guest_of(host);
    }
    submission.descriptor.pasid_word =
        guest.value_or(iommu::GuestPasid{}).raw() | (command.pasid_word & privileged_bit);
    return accept(index, limited, Arrival::enqueued, std::move(submission));
}

Accelerator::Reply Accelerator::post(unsigned index, const Descriptor& command) noexcept {
    return accept(index, false, Arrival::posted, {command, {}, false, 0});
}

Accelerator::Reply Accelerator::submit(unsigned index, bool limited, const Descriptor& command) noexcept {
    Submission submission{command, {}, false, 0};
    bool shared = false;
    if (index < shape_.queues) {
        const std::lock_guard lock{mutex_};
        shared = !queues_[index].dedicated();
    }
    if (shared && context_.spaces && (command.pasid_word & command_reserved) == 0) {
        submission.space = context_.spaces->open(iommu::GuestPasid{command.pasid()});
        submission.by_pasid = submission.space != nullptr;
    }
    return accept(index, limited, Arrival::stored, std::move(submission));
}

Accelerator::Reply Accelerator::accept(unsigned index, bool limited, Arrival arrival, Submission submission) {
    if (index >= shape_.queues)
        return arrival == Arrival::enqueued ? Reply::retry : Reply::refused;
    Raise raise;
    Reply reply = Reply::accepted;
    {
        const std::lock_guard lock{mutex_};
        auto& queue = queues_[index];
        const auto refuse = [&](std::uint8_t code) {
            ++queue.counts.refused;
            report({.code = code, .queue = index, .descriptor = &submission.descriptor}, raise);
            return Reply::refused;
        };
        const bool on = state_ == DeviceState::enabled && queue.state() == WorkQueue::State::enabled && !stopping_;
        if (arrival == Arrival::enqueued && (!on || queue.dedicated())) {
            ++queue.counts.retried;
            return Reply::retry;
        }
        if (!on) {
            reply = refuse(swerr::queue_not_enabled);
        } else if (arrival == Arrival::posted && !queue.dedicated()) {
            reply = refuse(swerr::wrong_write);
        } else if (!queue.dedicated() && !submission.by_pasid) {
            ++queue.counts.refused; // the submitter, whose mistake it is, gets the reply
            reply = Reply::refused;
        } else if (!queue.has_room(limited)) {
            if (arrival == Arrival::posted) {
                reply = refuse(swerr::queue_overflow);
            } else {
                ++queue.counts.retried;
                reply = Reply::retry;
            }
        } else {
            if (queue.dedicated()) {
                submission.space = queue.space();
                submission.by_pasid = queue.pasid_enabled();
                submission.descriptor.pasid_word =
                    (queue.pasid_enabled() ? queue.pasid().raw() : 0U) | (queue.privileged() ? privileged_bit : 0U);
            }
            submission.number = submissions_.fetch_add(1, std::memory_order_relaxed) + 1;
            ++queue.counts.submitted;
            queue.push(std::move(submission));
        }
    }
    if (reply == Reply::accepted) {
        if (engines_.size() == 1)
            work_.notify_one();
        else
            work_.notify_all();
    }
    deliver(raise);
    return reply;
}

std::vector<QueueInfo> Accelerator::queues() const {
    const std::lock_guard lock{mutex_};
    std::vector<QueueInfo> out;
    for (unsigned index = 0; index < shape_.queues; ++index) {
        const auto& queue = queues_[index];
        const bool named = queue.dedicated() && queue.pasid_enabled();
        out.push_back({.index = index,
                       .state = queue.state(),
                       .dedicated = queue.dedicated(),
                       .size = queue.size(),
                       .threshold = queue.threshold(),
                       .occupancy = queue.occupancy(),
                       .pasid = named ? std::optional{queue.pasid()} : std::nullopt,
                       .counts = queue.counts});
    }
    return out;
}

} // namespace inox::devices::dsa
