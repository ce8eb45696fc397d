// SPDX-License-Identifier: Apache-2.0
#include "devices/virtio/iommu.hpp"

#include <algorithm>
#include <utility>

#include "vmm/base/hex.hpp"

namespace inox::devices::virtio {
namespace {

namespace wire = iommu::wire;

/// Requests that a vCPU serves in one turn; the thread serves the rest, as a vCPU must be able to stop when it is told.
constexpr unsigned requests_at_once = 256;
constexpr std::chrono::milliseconds lock_retry{1};
/// Answers that wait for I/O. A correct driver has no more requests under way than the ring has entries.
constexpr std::size_t most_late = 256;

// 4 KiB, 2 MiB, 1 GiB. The driver splits a range into one request for each of these sizes. With every power of two it
// would send several requests for a few pages.
constexpr std::uint64_t page_sizes = 0x40201000;
static_assert((page_sizes & (2 * iommu::Domains::granule - 1)) == iommu::Domains::granule);

} // namespace

std::shared_ptr<Iommu> Iommu::create(iommu::Domains& domains, EventLoop& loop, iommu::RequestExtension* extension,
                                     std::chrono::milliseconds patience) {
    return std::shared_ptr<Iommu>{new Iommu{domains, loop, extension, patience}};
}

Iommu::Iommu(iommu::Domains& domains, EventLoop& loop, iommu::RequestExtension* extension,
             std::chrono::milliseconds patience)
    : Device{"iommu (virtio-iommu)"}, domains_{domains}, requests_{domains, extension}, loop_{loop}, patience_{
                                                                                                         patience} {
    listener_ = domains.faults().listen([this](const iommu::Faults::Entry& entry) { on_fault(entry.fault); });
}

Iommu::~Iommu() {
    reset();
    thread_.finish();
}

std::uint64_t Iommu::features() const {
    namespace f = wire::feature;
    return f::input_range | f::domain_range | f::map_unmap | f::probe | f::bypass_config |
           (requests_.extended() ? f::private_requests : 0);
}

void Iommu::read_config(std::uint64_t offset, std::span<std::byte> data) noexcept {
    wire::Config config;
    config.page_size_mask = page_sizes;
    config.input_start = domains_.input_range().start().raw();
    config.input_last = domains_.input_range().last().raw();
    config.domain_first = 0;
    config.domain_last = domains_.limits().last_domain.raw();
    config.probe_size = wire::probe_size;
    config.bypass = domains_.bypass() ? 1 : 0;
    const auto bytes = std::as_bytes(std::span{&config, 1});
    std::ranges::fill(data, std::byte{0});
    if (offset < bytes.size())
        std::ranges::copy(bytes.subspan(offset).first(std::min(data.size(), bytes.size() - offset)), data.begin());
}

void Iommu::write_config(std::uint64_t offset, std::span<const std::byte> data) noexcept {
    constexpr std::uint64_t field = offsetof(wire::Config, bypass);
    if (offset > field || field - offset >= data.size())
        return;
    const auto value = std::to_integer<unsigned>(data[field - offset]);
    if (value <= 1) // other values are ignored
        domains_.set_bypass(value == 1);
}

/// Answers that are still late are dropped; the reset waits for all the I/O that they waited for.
void Iommu::on_reset() noexcept {
    std::erase_if(late_, [](const auto& one) { return one.second.chain.has_value(); });
    full_ = false;
    Late late;
    requests_.reset(&late.drain);
    if (late.drain.done())
        return;
    resetting_.fetch_add(1, std::memory_order_relaxed);
    answer_later(std::move(late));
}

void Iommu::on_kick(unsigned index) noexcept {
    // Runs on the vCPU's thread, so the guest itself spends the time that the host takes for its mappings.
    if (index == request_queue)
        serve_requests(Turn{Turn::Clock::duration::max()});
    // Buffers on the event queue stay there until there are faults.
}

/// Answers that wait for other devices' I/O come when those have come to rest, and so do the last faults.
bool Iommu::on_drain() noexcept {
    const std::lock_guard lock{pending_mutex_};
    return late_.empty() && pending_.empty() && !posted_;
}

void Iommu::serve_requests(Turn turn) noexcept {
    Queue* ring = queue(request_queue);
    const auto hold = memory().hold();
    if (!ring || !ring->refresh())
        return;
    const auto served =
        serve(*ring, chain_, turn, requests_at_once, [&](Chain& chain) { return answer(*ring, chain); });
    full_ = served == Served::blocked;
    signal(request_queue);
    if (served == Served::more)
        serve_soon();
}

/// False when too many answers are late and the request has to wait.
bool Iommu::answer(Queue& ring, Chain& chain) noexcept {
    if (late_.size() >= most_late)
        return false;
    // The request is copied once, also when it is in pieces, so later changes by the guest do not count.
    std::array<std::byte, iommu::Requests::max_request + 1> bytes;
    const auto size = chain.copy_from(0, bytes);
    Late late;
    const auto out = requests_.handle(std::span{bytes}.first(size), Chain::bytes(chain.writable), negotiated_features(),
                                      answer_, &late.drain);
    if (out.empty())
        note_bad_request("a request of an unknown type, or without room for an answer");
    if (late.drain.done()) {
        ring.push(chain.head, static_cast<std::uint32_t>(chain.copy_to(0, out)));
        return true;
    }
    late.chain = std::move(chain);
    std::ranges::copy(out, late.answer.begin()); // only a status answers requests that take something away
    answer_later(std::move(late));
    return true;
}

void Iommu::answer_later(Late late) noexcept {
    late.deadline = std::chrono::steady_clock::now() + patience_;
    const std::uint64_t number = ++late_count_;
    Late& kept = late_.emplace(number, std::move(late)).first->second;
    // Whoever releases the last pin may hold its own device's lock, under which this device's must not be taken.
    kept.drain.when_done([weak = weak_from_this(), &loop = loop_, number] {
        loop.post([weak, number] {
            if (const auto self = weak.lock())
                self->finish_late(number);
        });
    });
    if (!std::exchange(watching_, true))
        loop_.post([weak = weak_from_this()] {
            if (const auto self = weak.lock())
                self->watch_late();
        });
}

/// Runs `work` on the loop with this device's lock. The lock's holder may wait for the host and the loop must not, so
/// it tries again later. Each kind of work that waits here is bounded by its own rule.
void Iommu::lock_on_loop(LoopWork work) noexcept {
    loop_work_.push_back(std::move(work));
    if (loop_work_.size() == 1)
        run_on_loop();
}

void Iommu::run_on_loop() noexcept {
    while (!loop_work_.empty()) {
        if (!try_with_lock([&](bool active) { loop_work_.front()(active); })) {
            loop_work_timer_ = loop_.after(lock_retry, [this] { run_on_loop(); });
            return;
        }
        loop_work_.pop_front();
    }
}

void Iommu::finish_late(std::uint64_t number) noexcept {
    lock_on_loop([this, number](bool active) {
        const auto found = late_.find(number);
        if (found == late_.end())
            return; // there was a reset meanwhile
        Late late = std::move(found->second);
        late_.erase(found);
        if (!late.chain) {
            resetting_.fetch_sub(1, std::memory_order_release);
            return;
        }
        Queue* ring = active && !stopped() ? queue(request_queue) : nullptr;
        if (!ring || !ring->refresh())
            return;
        ring->push(late.chain->head, static_cast<std::uint32_t>(late.chain->copy_to(0, late.answer)));
        signal(request_queue);
        if (full_)
            serve_soon();
        if (ring->broken())
            stop_broken(ring->broken_reason());
    });
}

/// Sets the timer for the first deadline, and hurries the drains whose deadline has passed.
void Iommu::watch_late() noexcept {
    lock_on_loop([this](bool) {
        const auto now = std::chrono::steady_clock::now();
        std::vector<DmaDrain> overdue;
        late_timer_.reset();
        auto first = std::chrono::steady_clock::time_point::max();
        for (auto& [number, late] : late_) {
            if (late.deadline <= now) {
                overdue.push_back(late.drain);
                late.deadline = now + patience_;
            }
            first = std::min(first, late.deadline);
        }
        watching_ = !late_.empty();
        if (watching_)
            late_timer_ = loop_.after(first - now, [this] { watch_late(); });
        if (!overdue.empty()) // hurry() must be called without locks
            loop_.post([drains = std::move(overdue)]() mutable {
                for (DmaDrain& drain : drains)
                    drain.hurry();
            });
    });
}

void Iommu::serve_soon() noexcept {
    if (std::exchange(posted_, true))
        return;
    if (thread_.runs())
        return thread_.post([this] { serve_rest(); });
    loop_.post([weak = weak_from_this()] { // a vCPU makes no threads
        const auto self = weak.lock();
        if (!self)
            return;
        if (self->thread_.start())
            return self->thread_.post([raw = self.get()] { raw->serve_rest(); });
        self->serve_rest(); // the host refused to make a thread
    });
}

void Iommu::serve_rest() noexcept {
    with_lock([&](bool active) {
        posted_ = false;
        if (!active || stopped() || at_rest())
            return;
        serve_requests(Turn{});
        if (const Queue* ring = queue(request_queue); ring && ring->broken())
            stop_broken(ring->broken_reason());
    });
}

/// The faulting device's lock and its hold are taken, so this device's lock must not be taken here.
void Iommu::on_fault(const iommu::Fault& fault) noexcept {
    if (fault_log_.allow())
        log::write(log::Level::warning, "IOMMU: endpoint 0000:%02x:%02x.%x%s may not %s %#llx: %s",
                   fault.endpoint.raw() >> 8 & 0xff, fault.endpoint.raw() >> 3 & 0x1f, fault.endpoint.raw() & 7,
                   fault.pasid ? format(" with PASID %u", fault.pasid->raw()).c_str() : "",
                   fault.access == Access::read ? "read" : "write", hex(fault.address),
                   iommu::reason_text(fault.reason));
    const std::lock_guard lock{pending_mutex_};
    if (pending_.size() == most_pending) {
        dropped_.fetch_add(1, std::memory_order_relaxed);
        return;
    }
    pending_.push_back(fault);
    if (!std::exchange(telling_, true))
        loop_.post([weak = weak_from_this()] {
            if (const auto self = weak.lock())
                self->tell_driver();
        });
}

void Iommu::tell_driver() noexcept {
    lock_on_loop([this](bool active) {
        std::vector<iommu::Fault> faults;
        {
            const std::lock_guard lock{pending_mutex_};
            faults.swap(pending_);
            telling_ = false;
        }
        Queue* ring = active && !stopped() ? queue(event_queue) : nullptr;
        DmaMemory::Hold hold;
        if (ring) {
            hold = memory().hold();
            if (!ring->refresh())
                ring = nullptr;
        }
        for (const iommu::Fault& fault : faults)
            (ring && tell(*ring, fault) ? told_ : dropped_).fetch_add(1, std::memory_order_relaxed);
        if (const Queue* used = active ? queue(event_queue) : nullptr) {
            signal(event_queue);
            if (used->broken())
                stop_broken(used->broken_reason());
        }
    });
}

bool Iommu::tell(Queue& ring, const iommu::Fault& fault) noexcept {
    if (!ring.pop(chain_))
        return false;
    wire::FaultRecord record;
    record.reason = static_cast<std::uint8_t>(fault.reason);
    record.flags =
        wire::FaultRecord::flag_address |
        ((static_cast<unsigned>(fault.access) & static_cast<unsigned>(Access::read)) != 0 ? wire::FaultRecord::flag_read
                                                                                          : 0U) |
        ((static_cast<unsigned>(fault.access) & static_cast<unsigned>(Access::write)) != 0
             ? wire::FaultRecord::flag_write
             : 0U);
    record.endpoint = fault.endpoint.raw();
    if (fault.pasid && (negotiated_features() & wire::feature::private_requests) != 0) {
        record.flags = record.flags | wire::FaultRecord::flag_pasid;
        record.pasid = fault.pasid->raw();
    }
    record.address = fault.address.raw();
    const bool fits = Chain::bytes(chain_.writable) >= sizeof record;
    if (!fits)
        note_bad_request("an event buffer is too small");
    else
        chain_.copy_to(0, std::as_bytes(std::span{&record, 1}));
    ring.push(chain_.head, fits ? sizeof record : 0);
    return fits;
}

} // namespace inox::devices::virtio
