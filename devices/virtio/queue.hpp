// SPDX-License-Identifier: Apache-2.0
// The device's side of a split virtqueue (virtio 1.2, 2.7), with indirect descriptors and EVENT_IDX.
//
//   descriptor table   what the driver's buffers are     16 bytes each
//   available ring     flags, idx, ring[size], used_event
//   used ring          flags, idx, ring[size]{id, len}, avail_event
#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "vmm/base/address.hpp"
#include "vmm/memory/dma_memory.hpp"

namespace inox {
class State;
}

namespace inox::devices::virtio {

/// Where the driver put a queue.
struct QueueLayout {
    std::uint16_t size{}; ///< a power of two, 1..32768
    Iova descriptors{};
    Iova available{};
    Iova used{};
};

/// The driver's name for a chain that was taken from its ring: what gives the chain back, once. Empty: there is nothing
/// to give back.
class ChainHead {
public:
    ChainHead() = default;
    ChainHead(const ChainHead&) = delete;
    ChainHead& operator=(const ChainHead&) = delete;
    ChainHead(ChainHead&& other) noexcept : index_{std::exchange(other.index_, none)} {}
    ChainHead& operator=(ChainHead&& other) noexcept {
        index_ = std::exchange(other.index_, none);
        return *this;
    }
    ~ChainHead() = default;

    explicit operator bool() const noexcept { return index_ != none; }

private:
    friend class Queue;
    static constexpr std::uint32_t none = ~0U;
    explicit ChainHead(std::uint16_t index) noexcept : index_{index} {}
    std::uint32_t index_{none};
};

/// One request: host memory of the buffers, in the driver's order. Reusable, so that steady work allocates nothing.
struct Chain {
    ChainHead head{};
    const DmaMemory* memory{};     ///< that the buffers lie in; null before the first pop()
    std::uint32_t work{};          ///< that taking it was: descriptors read and mappings looked up
    std::vector<iovec> readable{}; ///< by the device
    std::vector<iovec> writable{};
    /// The pieces' bus addresses in order, for DmaMemory::pin(); kept only when asked for. Neighbours are joined.
    bool keeps_addresses{false};
    std::vector<Range<Iova>> addresses{};

    /// Empties it, with its head, and gives back memory that only an unusually long request needed.
    void clear();

    [[nodiscard]] static std::uint64_t bytes(std::span<const iovec> pieces);
    /// Copies from the start of the readable part at `offset`; returns how many bytes there were.
    std::size_t copy_from(std::uint64_t offset, std::span<std::byte> to) const;
    /// Copies into the writable part at `offset`; returns how many bytes fit.
    std::size_t copy_to(std::uint64_t offset, std::span<const std::byte> from) const;
    /// The writable part was written by other means, later than on the turn of the loop that took it.
    void wrote() const noexcept;
};

/// Cuts `bytes` off the front; false, with nothing changed, when there are fewer.
bool drop_front(std::vector<iovec>& pieces, std::uint64_t bytes);
/// Keeps only the first `bytes`.
void keep_front(std::vector<iovec>& pieces, std::uint64_t bytes);

/// One thread at a time. Everything the guest wrote is copied once, checked, then used; a broken ring stops the queue
/// (broken()) and nothing else.
class Queue {
public:
    /// Descriptors in one chain, an indirect table included; and the pieces of host memory they lie in: what one
    /// system call takes (IOV_MAX).
    static constexpr unsigned max_chain = 1024;
    /// Mappings of the guest's IOMMU that the buffers of one chain may lie over: 68 MiB in pages of 4 KiB, more than
    /// any request of a disk.
    static constexpr unsigned max_mappings = 17 * 1024;

    Queue(const DmaMemory& memory, const QueueLayout& layout, bool event_index);

    /// Call under a hold of memory(), before anything below and after each new hold: finds the rings again when
    /// translations changed. False when they cannot be reached; the queue is broken then.
    [[nodiscard]] bool refresh() noexcept;

    /// The next request. False when there is none, or the queue is broken.
    bool pop(Chain& chain) noexcept;
    /// Gives back what the last pop() took; it will be popped again.
    void undo_pop(ChainHead& head) noexcept;
    [[nodiscard]] bool has_work() const noexcept;
    /// Completes a request; `written` bytes from the start of the writable part are new. The head is empty then, and an
    /// empty one is not pushed.
    void push(ChainHead& head, std::uint32_t written) noexcept;
    /// Chains that were taken and not given back.
    [[nodiscard]] std::uint32_t outstanding() const noexcept { return outstanding_; }
    /// Whether the driver wants an interrupt for what was pushed since the last call (2.7.7, 2.7.10).
    [[nodiscard]] bool take_interrupt() noexcept;

    /// Asks the driver to notify, or not to bother. After asking, look at has_work() once more.
    void ask_notifications(bool wanted) noexcept;

    /// Asks the driver to notify of the next chain that it adds, while others wait in the ring untaken. False: it has
    /// added one meanwhile.
    [[nodiscard]] bool ask_for_more() noexcept;

    /// Where it is in its rings, which are guest memory. Saving: nothing is outstanding.
    void state(State& state);

    [[nodiscard]] bool broken() const { return broken_ != nullptr; }
    /// Why, for the log; null while the queue is fine.
    [[nodiscard]] const char* broken_reason() const { return broken_; }
    [[nodiscard]] std::uint16_t size() const { return layout_.size; }
    [[nodiscard]] const QueueLayout& layout() const { return layout_; }
    [[nodiscard]] const DmaMemory& memory() const { return memory_; }

private:
    struct Descriptor {
        std::uint64_t address;
        std::uint32_t length;
        std::uint16_t flags;
        std::uint16_t next;
    };
    static_assert(sizeof(Descriptor) == 16 && GuestPod<Descriptor>);

    /// Of the chain that is being walked.
    struct Walk {
        Chain& chain;
        std::uint16_t head;
        TranslationLimit limit{max_chain, max_mappings};
        unsigned descriptors{0};
    };

    bool fail(const char* reason) noexcept;
    bool walk(Walk& walk) noexcept;
    bool walk_indirect(const Descriptor& table, Walk& walk) noexcept;
    bool add(const Descriptor& descriptor, Walk& walk) noexcept;
    [[nodiscard]] bool map(Iova start, std::uint64_t size, Access access, std::byte*& out) noexcept;
    [[nodiscard]] std::uint16_t available_index() const noexcept;
    void wrote_request() const noexcept;

    const DmaMemory& memory_;
    QueueLayout layout_;
    bool event_index_;
    std::uint64_t generation_{~std::uint64_t{0}};
    std::byte* descriptors_{};
    std::byte* available_{};
    std::byte* used_{};
    std::uint16_t next_available_{0};
    std::uint16_t next_used_{0};
    std::uint32_t outstanding_{0};
    std::uint16_t signalled_used_{0};
    bool first_signal_{true};
    const char* broken_{nullptr};
};

} // namespace inox::devices::virtio
