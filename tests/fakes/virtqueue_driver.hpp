// SPDX-License-Identifier: Apache-2.0
// The driver's side of a split virtqueue, for tests: builds chains in guest RAM, reads the used ring, and can lie.
//
//   auto chain = driver.chain().readable(header).writable(512).post();
//   device.kick(0);
//   CHECK(driver.used()->length == 513);
#pragma once

#include <array>
#include <atomic>
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

    std::uint64_t allocate(std::uint64_t size, std::uint64_t alignment = 16);
    template <GuestPod T> T get(std::uint64_t address) const { return *memory.read<T>(Gpa{address}); }
    template <GuestPod T> void put(std::uint64_t address, T value) {
        if (!memory.write(Gpa{address}, value))
            throw std::out_of_range{"outside test RAM"};
    }
    std::string text(std::uint64_t address, std::size_t size) const;
    /// An index of a ring, which driver and device share: 2.7.13 asks both for barriers.
    [[nodiscard]] std::atomic_ref<std::uint16_t> index(std::uint64_t address) const;
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

    explicit VirtqueueDriver(TestRam& ram, std::uint16_t size = 16);

    devices::virtio::QueueLayout layout{};

    class Builder {
    public:
        Builder(VirtqueueDriver& driver) : driver_{driver} {} // NOLINT
        Builder& readable(std::span<const std::byte> bytes);
        Builder& readable(std::string_view text) { return readable(std::as_bytes(std::span{text})); }
        template <GuestPod T>
        requires(!std::is_convertible_v<T, std::string_view>) Builder& readable(const T& value) {
            return readable(std::as_bytes(std::span{&value, 1}));
        }
        Builder& writable(std::uint32_t size) { return raw({driver_.ram_.allocate(size), size, true}); }
        Builder& raw(Piece piece);
        /// Puts the chain into the available ring; returns its pieces.
        std::vector<Piece> post(bool indirect = false);
        std::vector<Piece> pieces{};

    private:
        VirtqueueDriver& driver_;
    };
    Builder chain() { return Builder{*this}; }

    /// The next element of the used ring the driver has not seen.
    std::optional<Used> used();

    // For lies.
    void set_descriptor(std::uint16_t index, std::uint64_t address, std::uint32_t length, std::uint16_t flags,
                        std::uint16_t next);
    void make_available(std::uint16_t head);
    void set_available_index(std::uint16_t index);
    void set_available_flags(std::uint16_t flags) { ram_.put(available_, flags); }
    void set_used_event(std::uint16_t index) { ram_.put(available_ + 4 + 2U * layout.size, index); }
    [[nodiscard]] std::uint16_t avail_event() const { return ram_.get<std::uint16_t>(used_ + 4 + 8U * layout.size); }
    [[nodiscard]] std::uint16_t used_flags() const { return ram_.get<std::uint16_t>(used_); }

private:
    void post(const std::vector<Piece>& pieces, bool indirect);

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
    void used_buffers(unsigned queue) noexcept override;
    void config_changed() noexcept override { ++config; }
    void needs_reset() noexcept override { ++broken; }
    std::array<std::atomic<unsigned>, 8> used{};
    std::atomic<unsigned> config{0};
    std::atomic<unsigned> broken{0};
};

} // namespace inox::fakes
