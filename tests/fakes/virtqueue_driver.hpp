// SPDX-License-Identifier: Apache-2.0
// The driver's side of a split virtqueue, for tests: builds chains in guest RAM, reads the used ring, and can lie.
//
//   auto chain = driver.chain().readable(header).writable(512).post();
//   device.kick(0);
//   CHECK(driver.used()->length == 513);
#pragma once

#include <array>
#include <cstring>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "devices/virtio/device.hpp"
#include "devices/virtio/queue.hpp"
#include "vmm/memory/dma_memory.hpp"
#include "vmm/memory/guest_memory.hpp"

namespace inox::fakes {

/// Guest RAM of `size` bytes with a direct view, and a bump allocator for buffers.
struct TestRam {
    explicit TestRam(std::uint64_t size = 4 * MiB, HugePages pages = HugePages::none)
        : memory{*GuestMemory::create(size, pages)} {}
    GuestMemory memory;
    DirectMemory direct{memory};
    std::uint64_t next{0x100000};

    std::uint64_t allocate(std::uint64_t size, std::uint64_t alignment = 16) {
        next = align_up(next, alignment);
        return std::exchange(next, next + size);
    }
    template <GuestPod T> T get(std::uint64_t address) const { return *memory.read<T>(Gpa{address}); }
    template <GuestPod T> void put(std::uint64_t address, T value) {
        if (!memory.write(Gpa{address}, value))
            throw std::out_of_range{"outside test RAM"};
    }
    std::string text(std::uint64_t address, std::size_t size) const {
        std::string out(size, '\0');
        (void)memory.read(Gpa{address}, std::as_writable_bytes(std::span{out}));
        return out;
    }
};

class VirtqueueDriver {
public:
    struct Piece {
        std::uint64_t address;
        std::uint32_t length;
        bool write;
    };
    struct Used {
        std::uint32_t id;
        std::uint32_t length;
    };

    explicit VirtqueueDriver(TestRam& ram, std::uint16_t size = 16) : ram_{ram} {
        layout.size = size;
        descriptors_ = ram.allocate(16U * size);
        available_ = ram.allocate(6U + 2U * size);
        used_ = ram.allocate(6U + 8U * size);
        layout.descriptors = Iova{descriptors_};
        layout.available = Iova{available_};
        layout.used = Iova{used_};
    }

    devices::virtio::QueueLayout layout{};

    class Builder {
    public:
        Builder(VirtqueueDriver& driver) : driver_{driver} {} // NOLINT
        Builder& readable(std::span<const std::byte> bytes) {
            const auto address = driver_.ram_.allocate(bytes.size());
            (void)driver_.ram_.memory.write(Gpa{address}, bytes);
            return raw({address, static_cast<std::uint32_t>(bytes.size()), false});
        }
        Builder& readable(std::string_view text) { return readable(std::as_bytes(std::span{text})); }
        template <GuestPod T>
        requires(!std::is_convertible_v<T, std::string_view>) Builder& readable(const T& value) {
            return readable(std::as_bytes(std::span{&value, 1}));
        }
        Builder& writable(std::uint32_t size) { return raw({driver_.ram_.allocate(size), size, true}); }
        Builder& raw(Piece piece) {
            pieces.push_back(piece);
            return *this;
        }
        /// Puts the chain into the available ring; returns its pieces.
        std::vector<Piece> post(bool indirect = false) {
            driver_.post(pieces, indirect);
            return pieces;
        }
        std::vector<Piece> pieces{};

    private:
        VirtqueueDriver& driver_;
    };
    Builder chain() { return Builder{*this}; }

    /// The next element of the used ring the driver has not seen.
    std::optional<Used> used() {
        if (ram_.get<std::uint16_t>(used_ + 2) == seen_)
            return std::nullopt;
        const auto at = used_ + 4 + 8U * (seen_++ % layout.size);
        return Used{ram_.get<std::uint32_t>(at), ram_.get<std::uint32_t>(at + 4)};
    }

    // For lies.
    void set_descriptor(std::uint16_t index, std::uint64_t address, std::uint32_t length, std::uint16_t flags,
                        std::uint16_t next) {
        const auto at = descriptors_ + 16U * index;
        ram_.put(at, address);
        ram_.put(at + 8, length);
        ram_.put(at + 12, flags);
        ram_.put(at + 14, next);
    }
    void make_available(std::uint16_t head) {
        ram_.put(available_ + 4 + 2U * (available_index_ % layout.size), head);
        set_available_index(static_cast<std::uint16_t>(available_index_ + 1));
    }
    void set_available_index(std::uint16_t index) {
        available_index_ = index;
        ram_.put(available_ + 2, index);
    }
    void set_available_flags(std::uint16_t flags) { ram_.put(available_, flags); }
    void set_used_event(std::uint16_t index) { ram_.put(available_ + 4 + 2U * layout.size, index); }
    [[nodiscard]] std::uint16_t avail_event() const { return ram_.get<std::uint16_t>(used_ + 4 + 8U * layout.size); }
    [[nodiscard]] std::uint16_t used_flags() const { return ram_.get<std::uint16_t>(used_); }

private:
    void post(const std::vector<Piece>& pieces, bool indirect) {
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

    TestRam& ram_;
    std::uint64_t descriptors_{};
    std::uint64_t available_{};
    std::uint64_t used_{};
    std::uint16_t next_descriptor_{0};
    std::uint16_t available_index_{0};
    std::uint16_t seen_{0};
};

/// Counts what a device tells its driver.
struct RecordingNotifier final : devices::virtio::Notifier {
    void used_buffers(unsigned queue) noexcept override {
        if (queue < 8)
            ++used[queue];
    }
    void config_changed() noexcept override { ++config; }
    void needs_reset() noexcept override { ++broken; }
    std::array<std::atomic<unsigned>, 8> used{};
    std::atomic<unsigned> config{0};
    std::atomic<unsigned> broken{0};
};

} // namespace inox::fakes
