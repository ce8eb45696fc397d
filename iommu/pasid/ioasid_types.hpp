// SPDX-License-Identifier: Apache-2.0
// Words of the IOASID core: tokens, holders, events, and the interfaces of those who take part.
#pragma once

#include <array>
#include <cstdint>
#include <expected>
#include <memory>
#include <optional>

#include "iommu/ids.hpp"

namespace inox::iommu {

/// Ids are 20 bits; 0 is none.
inline constexpr std::uint32_t max_ioasid = 0xfffff;

/// What a caller of the core did wrong, or what ran out. Guests see it as a status, never as text.
enum class IoasidErrc : std::uint8_t {
    invalid,    ///< an argument makes no sense, or the set is going away
    not_found,  ///< no such id or SPID, or it is being freed
    access,     ///< the id belongs to another set
    exists,     ///< token, SPID or allocator is in use
    busy,       ///< something that must go first is still there
    no_space,   ///< quota or ids used up
    again,      ///< ids of another allocator are outstanding
    in_handler, ///< called from a notifier, which may use its context only
};
template <class T> using IoasidResult = std::expected<T, IoasidErrc>;

/// Names the owner of a set. Its type is part of the identity; process tokens are unique among live sets.
struct IoasidToken {
    enum class Owner : std::uint8_t { plain, process };
    Owner owner{Owner::plain};
    std::uint64_t value{};
    bool operator==(const IoasidToken&) const = default;
};

/// Who holds references. Counted apart, so that nobody can drop what another took.
enum class IoasidHolder : std::uint8_t {
    owner,  ///< the allocation itself; dropped by free()
    iommu,  ///< address spaces
    cpu,    ///< the PASID translation table
    device, ///< hardware contexts and work in queues
    other,
};
inline constexpr std::size_t ioasid_holders = 5;

class IoasidSet;
using IoasidSetRef = std::shared_ptr<IoasidSet>;

/// Always concerns one id.
struct IoasidEvent {
    enum class Change : std::uint8_t { alloc, free, bind, unbind };
    Change change;
    const IoasidSetRef& set;
    HostPasid id;
    std::optional<GuestPasid> spid;
};

/// What a notifier may do with the core while it runs: concerns the event's id only.
class IoasidContext {
public:
    IoasidContext() = default;
    IoasidContext(const IoasidContext&) = delete;
    IoasidContext& operator=(const IoasidContext&) = delete;
    virtual ~IoasidContext() = default;
    virtual IoasidResult<void> get(IoasidHolder holder) noexcept = 0;
    virtual void put(IoasidHolder holder) noexcept = 0;
};

/// Delivery order within one event.
enum class IoasidPriority : std::uint8_t { cpu, device, iommu, last };

/// Runs while the core changes nothing else. It must not sleep, and must not call operations of the core that emit
/// events; it may hand work to a thread, which then keeps its reference until the work is done.
class IoasidNotifier {
public:
    IoasidNotifier() = default;
    IoasidNotifier(const IoasidNotifier&) = delete;
    IoasidNotifier& operator=(const IoasidNotifier&) = delete;
    virtual ~IoasidNotifier() = default;
    virtual void on_ioasid(const IoasidEvent& event, IoasidContext& context) noexcept = 0;
};

/// Where ids come from instead of the core's own pool. Thread-safe; not called under a lock that look-ups take.
class IoasidAllocator {
public:
    IoasidAllocator() = default;
    IoasidAllocator(const IoasidAllocator&) = delete;
    IoasidAllocator& operator=(const IoasidAllocator&) = delete;
    virtual ~IoasidAllocator() = default;
    /// An id in [min, max] that is not in use.
    virtual std::optional<HostPasid> allocate(HostPasid min, HostPasid max) noexcept = 0;
    virtual void release(HostPasid id) noexcept = 0;
};

/// One id, for sight.
struct IoasidInfo {
    HostPasid id;
    bool free_pending{};
    std::optional<GuestPasid> spid;
    std::uint32_t binds{};
    std::array<std::uint16_t, ioasid_holders> references{}; ///< by IoasidHolder
    [[nodiscard]] unsigned total() const {
        unsigned sum = 0;
        for (const auto count : references)
            sum += count;
        return sum;
    }
};

/// One set, for sight.
struct IoasidSetInfo {
    std::uint32_t number{};
    IoasidToken token;
    std::uint32_t quota{};
    std::uint32_t used{}; ///< with those being freed
    bool free_pending{};
};

} // namespace inox::iommu
