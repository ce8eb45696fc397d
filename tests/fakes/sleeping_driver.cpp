// SPDX-License-Identifier: Apache-2.0
#include "tests/fakes/sleeping_driver.hpp"

namespace inox::fakes {

SleepingRing::SleepingRing(TestRam& ram, std::uint16_t size, bool event_index, const std::vector<Part>& parts)
    : size_{size}, event_index_{event_index}, parts_{static_cast<std::uint16_t>(parts.size())} {
    const std::uint64_t descriptors = ram.allocate(16U * size);
    const std::uint64_t available = ram.allocate(6U + 2U * size);
    const std::uint64_t used = ram.allocate(6U + 8U * size);
    layout = {size, Iova{descriptors}, Iova{available}, Iova{used}};
    available_ = bytes(ram, available, 6U + 2U * size);
    used_ = bytes(ram, used, 6U + 8U * size);
    for (std::uint16_t request = 0; (request + 1U) * parts_ <= size; ++request) {
        free_.push_back(request);
        for (std::uint16_t i = 0; i < parts_; ++i) {
            const auto index = static_cast<std::uint16_t>(request * parts_ + i);
            addresses_.push_back(ram.allocate(parts[i].length));
            const bool last = i + 1U == parts_;
            ram.put(descriptors + 16U * index, addresses_.back());
            ram.put(descriptors + 16U * index + 8, parts[i].length);
            ram.put(descriptors + 16U * index + 12,
                    static_cast<std::uint16_t>((parts[i].write ? 2 : 0) | (last ? 0 : 1)));
            ram.put(descriptors + 16U * index + 14, static_cast<std::uint16_t>(last ? 0 : index + 1));
        }
    }
    requests_ = free_.size();
}

std::uint64_t SleepingRing::address(std::uint16_t request, std::uint16_t part) const {
    return addresses_[std::size_t{request} * parts_ + part];
}

void SleepingRing::add() {
    const auto head = static_cast<std::uint16_t>(free_.front() * parts_);
    free_.pop_front();
    word(available_, 4U + 2U * (next_ % size_)).store(head, std::memory_order_relaxed);
    ++next_;
}

bool SleepingRing::publish() {
    const std::uint16_t old = std::exchange(published_, next_);
    if (old == next_)
        return false;
    word(available_, 2).store(next_, std::memory_order_release);
    std::atomic_thread_fence(std::memory_order_seq_cst);
    if (!event_index_)
        return (word(used_, 0).load(std::memory_order_relaxed) & 1) == 0;
    const std::uint16_t event = word(used_, 4U + 8U * size_).load(std::memory_order_relaxed);
    return static_cast<std::uint16_t>(next_ - event - 1) < static_cast<std::uint16_t>(next_ - old);
}

std::optional<SleepingRing::Used> SleepingRing::take() {
    if (!more())
        return std::nullopt;
    std::uint32_t entry[2];
    std::memcpy(entry, used_ + 4 + 8U * (seen_++ % size_), sizeof entry);
    free_.push_back(static_cast<std::uint16_t>(entry[0] / parts_));
    return Used{free_.back(), entry[1]};
}

void SleepingRing::refuse_interrupts() {
    if (event_index_) // as Linux: an index that is passed once in 65536
        word(available_, 4U + 2U * size_).store(0, std::memory_order_relaxed);
    else
        word(available_, 0).store(1, std::memory_order_relaxed);
}

bool SleepingRing::ask_interrupt(std::uint16_t skip) {
    if (event_index_)
        word(available_, 4U + 2U * size_).store(static_cast<std::uint16_t>(seen_ + skip), std::memory_order_relaxed);
    else
        word(available_, 0).store(0, std::memory_order_relaxed);
    std::atomic_thread_fence(std::memory_order_seq_cst);
    const std::uint16_t there = word(used_, 2).load(std::memory_order_acquire);
    return static_cast<std::uint16_t>(there - seen_) <= (event_index_ ? skip : 0);
}

std::byte* SleepingRing::bytes(const TestRam& ram, std::uint64_t address, std::uint64_t size) {
    const auto host = ram.memory.host(Gpa{address}, size).value();
    std::memset(host.data(), 0, host.size());
    return host.data();
}

std::atomic_ref<std::uint16_t> SleepingRing::word(std::byte* ring, std::size_t offset) {
    return std::atomic_ref{*reinterpret_cast<std::uint16_t*>(ring + offset)}; // NOLINT: aligned by allocate()
}

SleepingDriver::SleepingDriver(const std::shared_ptr<devices::virtio::Device>& device, EventLoop& loop,
                               std::uint64_t features, const std::vector<Ring>& shape)
    : transport{device, ram.direct, notifier, false} {
    namespace status = devices::virtio::status;
    const bool event_index = (features & devices::virtio::feature::event_index) != 0;
    features |= devices::virtio::feature::version_1;
    transport.attach(loop).value();
    transport.set_status(status::acknowledge | status::driver);
    transport.accept(0, static_cast<std::uint32_t>(features));
    transport.accept(1, static_cast<std::uint32_t>(features >> 32));
    transport.set_status(status::acknowledge | status::driver | status::features_ok);
    for (unsigned i = 0; i < shape.size(); ++i) {
        auto& ring = rings.emplace_back(ram, shape[i].size, event_index, shape[i].parts);
        transport.set_queue(i, [&](auto& state) {
            state.size = ring.layout.size;
            state.descriptors = ring.layout.descriptors.raw();
            state.available = ring.layout.available.raw();
            state.used = ring.layout.used.raw();
        });
        transport.enable_queue(i);
    }
}

void SleepingDriver::start() {
    namespace status = devices::virtio::status;
    transport.set_status(status::acknowledge | status::driver | status::features_ok | status::driver_ok);
}

void SleepingDriver::publish(unsigned index) {
    if (rings[index].publish())
        transport.doorbell(index).signal();
}

bool SleepingDriver::sleep(std::chrono::milliseconds limit) {
    pollfd poll{notifier.event.fd(), POLLIN, 0};
    if (::poll(&poll, 1, static_cast<int>(limit.count())) != 1)
        return false;
    notifier.event.drain();
    return true;
}

} // namespace inox::fakes
