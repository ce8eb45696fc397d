// SPDX-License-Identifier: Apache-2.0
#include "tests/fakes/virtqueue_driver.hpp"

namespace inox::fakes {

std::uint64_t TestRam::allocate(std::uint64_t size, std::uint64_t alignment) {
    next = align_up(next, alignment);
    return std::exchange(next, next + size);
}

std::string TestRam::text(std::uint64_t address, std::size_t size) const {
    std::string out(size, '\0');
    (void)memory.read(Gpa{address}, std::as_writable_bytes(std::span{out}));
    return out;
}

std::atomic_ref<std::uint16_t> TestRam::index(std::uint64_t address) const {
    auto* const at = memory.host(Gpa{address}, sizeof(std::uint16_t)).value().data();
    return std::atomic_ref{*reinterpret_cast<std::uint16_t*>(at)}; // NOLINT(*-reinterpret-cast): as devices do
}

VirtqueueDriver::VirtqueueDriver(TestRam& ram, std::uint16_t size) : ram_{ram} {
    layout.size = size;
    descriptors_ = ram.allocate(16U * size);
    available_ = ram.allocate(6U + 2U * size);
    used_ = ram.allocate(6U + 8U * size);
    layout.descriptors = Iova{descriptors_};
    layout.available = Iova{available_};
    layout.used = Iova{used_};
}

VirtqueueDriver::Builder& VirtqueueDriver::Builder::readable(std::span<const std::byte> bytes) {
    const auto address = driver_.ram_.allocate(bytes.size());
    (void)driver_.ram_.memory.write(Gpa{address}, bytes);
    return raw({address, static_cast<std::uint32_t>(bytes.size()), false});
}

VirtqueueDriver::Builder& VirtqueueDriver::Builder::raw(Piece piece) {
    pieces.push_back(piece);
    return *this;
}

std::vector<VirtqueueDriver::Piece> VirtqueueDriver::Builder::post(bool indirect) {
    driver_.post(pieces, indirect);
    return pieces;
}

std::optional<VirtqueueDriver::Used> VirtqueueDriver::used() {
    if (ram_.index(used_ + 2).load(std::memory_order_acquire) == seen_)
        return std::nullopt;
    const auto at = used_ + 4 + 8U * (seen_++ % layout.size);
    return Used{ram_.get<std::uint32_t>(at), ram_.get<std::uint32_t>(at + 4)};
}

void VirtqueueDriver::set_descriptor(std::uint16_t index, std::uint64_t address, std::uint32_t length,
                                     std::uint16_t flags, std::uint16_t next) {
    const auto at = descriptors_ + 16U * index;
    ram_.put(at, address);
    ram_.put(at + 8, length);
    ram_.put(at + 12, flags);
    ram_.put(at + 14, next);
}

void VirtqueueDriver::make_available(std::uint16_t head) {
    ram_.put(available_ + 4 + 2U * (available_index_ % layout.size), head);
    set_available_index(static_cast<std::uint16_t>(available_index_ + 1));
}

void VirtqueueDriver::set_available_index(std::uint16_t index) {
    available_index_ = index;
    ram_.index(available_ + 2).store(index, std::memory_order_release);
}

void VirtqueueDriver::post(const std::vector<Piece>& pieces, bool indirect) {
    const std::uint16_t head = next_descriptor_;
    if (indirect) {
        const auto table = ram_.allocate(16U * pieces.size());
        for (std::size_t i = 0; i < pieces.size(); ++i) {
            const bool last = i + 1 == pieces.size();
            ram_.put(table + 16 * i, pieces[i].address);
            ram_.put(table + 16 * i + 8, pieces[i].length);
            ram_.put<std::uint16_t>(table + 16 * i + 12,
                                    static_cast<std::uint16_t>((pieces[i].write ? 2 : 0) | (last ? 0 : 1)));
            ram_.put(table + 16 * i + 14, static_cast<std::uint16_t>(i + 1));
        }
        set_descriptor(head, table, static_cast<std::uint32_t>(16 * pieces.size()), 4, 0);
        next_descriptor_ = static_cast<std::uint16_t>((head + 1) % layout.size);
    } else {
        for (std::size_t i = 0; i < pieces.size(); ++i) {
            const bool last = i + 1 == pieces.size();
            const auto next = static_cast<std::uint16_t>((next_descriptor_ + 1) % layout.size);
            set_descriptor(next_descriptor_, pieces[i].address, pieces[i].length,
                           static_cast<std::uint16_t>((pieces[i].write ? 2 : 0) | (last ? 0 : 1)), next);
            next_descriptor_ = next;
        }
    }
    make_available(head);
}

void RecordingNotifier::used_buffers(unsigned queue) noexcept {
    if (queue < 8)
        ++used[queue];
}

} // namespace inox::fakes
