// SPDX-License-Identifier: Apache-2.0
// The IOASID core: who owns which system-wide PASID, who still uses it, and who must hear about it. Plain logic: no
// queue, no KVM, no device.
//
//            alloc                  free, others hold           last put
//   FREE ----------> ACTIVE ----------------------> FREE_PENDING --------> FREE
//                       |                                                    ^
//                       +-- free, nobody else holds; or the last put --------+
//
// In FREE_PENDING nobody gets a new reference and look-ups fail; references taken before stay good. The number is not
// given out again, and counts against the quota, until the last one is gone.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <unordered_map>
#include <vector>

#include "iommu/ids.hpp"
#include "iommu/pasid/id_pool.hpp"
#include "iommu/pasid/ioasid_types.hpp"
#include "vmm/base/os.hpp"

namespace inox::iommu {

/// A group of ids with one owner and a quota. Made by the core, which guards everything but the constants; the handle
/// may outlive the set, whose operations then fail.
class IoasidSet {
public:
    [[nodiscard]] std::uint32_t number() const { return number_; }
    [[nodiscard]] IoasidToken token() const { return token_; }

private:
    friend class IoasidCore;
    enum class State : std::uint8_t { live, free_pending, gone };
    std::uint32_t number_{};
    IoasidToken token_{};
    State state_{State::live};
    std::uint32_t quota_{};
    std::uint32_t used_{};                                     ///< until reclaimed
    std::uint32_t first_{};                                    ///< its ids are a list through the entries; 0 ends it
    std::unordered_map<std::uint32_t, std::uint32_t> spids_{}; ///< SPID to id
};

/// Thread-safe. Operations that emit events are serialised, handlers included; look-ups, get and put take a second lock
/// that is never held during a handler, so they never wait for one.
///
/// It has all that the rules R1 to R50 ask for. PasidService needs a part of it; only tests call set_adjust, find_set,
/// free_all, find, attach_data, detach_spid, the allocators, notifiers of more than one set, sets and refused_puts.
class IoasidCore {
public:
    /// Ids are 1 to `last_id`.
    explicit IoasidCore(std::uint32_t last_id = max_ioasid);
    /// Notifiers must be gone.
    ~IoasidCore();
    IoasidCore(const IoasidCore&) = delete;
    IoasidCore& operator=(const IoasidCore&) = delete;

    // Sets. The sum of quotas never exceeds the number of ids.
    /// A quota of 0 takes all that remain. invalid: a process token of 0; exists; no_space.
    [[nodiscard]] IoasidResult<IoasidSetRef> set_alloc(IoasidToken token, std::uint32_t quota);
    /// invalid: below the ids in use, 0, or the set is going; no_space.
    [[nodiscard]] IoasidResult<void> set_adjust(const IoasidSetRef& set, std::uint32_t quota);
    /// The oldest live set of this token, or null.
    [[nodiscard]] IoasidSetRef find_set(IoasidToken token) const;
    /// busy: ids are outstanding, and the set goes with the last of them.
    IoasidResult<void> set_free(const IoasidSetRef& set);

    // Ids. Every operation names the set and is refused (access) when the id belongs to another.
    /// The lowest free id in [min, max], with one reference of the owner. Emits ALLOC. invalid, no_space, in_handler.
    [[nodiscard]] IoasidResult<HostPasid> alloc(const IoasidSetRef& set, HostPasid min, HostPasid max,
                                                std::shared_ptr<void> data = {});
    /// Always succeeds; of an id that is unknown, foreign or being freed it does nothing. Emits FREE when others hold
    /// references.
    void free(const IoasidSetRef& set, HostPasid id);
    void free_all(const IoasidSetRef& set);
    [[nodiscard]] IoasidResult<void> get(const IoasidSetRef& set, HostPasid id, IoasidHolder holder);
    /// Of a reference that the holder does not have it does nothing.
    void put(const IoasidSetRef& set, HostPasid id, IoasidHolder holder);

    /// Private data; null when there is none. `take` is asked, under the lock, whether it can still be had.
    [[nodiscard]] IoasidResult<std::shared_ptr<void>> find(const IoasidSetRef& set, HostPasid id,
                                                           const std::function<bool(void*)>& take = {}) const;
    /// Null clears. busy: there is some already.
    [[nodiscard]] IoasidResult<void> attach_data(const IoasidSetRef& set, HostPasid id, std::shared_ptr<void> data);

    // The set's own number of an id. Not while the id is bound (busy): the translation table has the pair.
    /// invalid: not 20 bits; exists: the number names another id, or the id has one.
    [[nodiscard]] IoasidResult<void> attach_spid(const IoasidSetRef& set, HostPasid id, GuestPasid spid);
    [[nodiscard]] IoasidResult<void> detach_spid(const IoasidSetRef& set, HostPasid id);
    /// With `holder`, a reference is taken too.
    [[nodiscard]] IoasidResult<HostPasid> find_by_spid(const IoasidSetRef& set, GuestPasid spid,
                                                       std::optional<IoasidHolder> holder = {});

    // Bindings to address spaces are counted per id: the first emits BIND, the last to go UNBIND.
    [[nodiscard]] IoasidResult<void> bind(const IoasidSetRef& set, HostPasid id);
    IoasidResult<void> unbind(const IoasidSetRef& set, HostPasid id);

    // Subscribers hear of all ids, of one set's, or of those of sets with a token, also future ones. Past events are
    // not replayed. `notifier` must outlive the registration. busy: subscribed before, or (token) the set has ids.
    [[nodiscard]] IoasidResult<Registration> add_notifier(IoasidPriority priority, IoasidNotifier& notifier);
    [[nodiscard]] IoasidResult<Registration> add_notifier(const IoasidSetRef& set, IoasidPriority priority,
                                                          IoasidNotifier& notifier);
    [[nodiscard]] IoasidResult<Registration> add_notifier(IoasidToken token, IoasidPriority priority,
                                                          IoasidNotifier& notifier);

    // The first registered one is in use; the core's own pool when there is none.
    /// exists; again: ids of the own pool are outstanding.
    [[nodiscard]] IoasidResult<void> add_allocator(IoasidAllocator& allocator);
    /// not_found; busy: ids of it are outstanding.
    [[nodiscard]] IoasidResult<void> remove_allocator(IoasidAllocator& allocator);

    // Sight.
    [[nodiscard]] std::vector<IoasidSetInfo> sets() const;
    /// One of them, without memory of its own.
    [[nodiscard]] IoasidSetInfo set_info(const IoasidSetRef& set) const;
    /// At most `most` ids of a set, ascending, from `from` on.
    [[nodiscard]] std::vector<IoasidInfo> ids(const IoasidSetRef& set, HostPasid from = {},
                                              std::size_t most = 4096) const;
    [[nodiscard]] std::optional<IoasidInfo> info(HostPasid id) const;
    [[nodiscard]] std::uint32_t available() const; ///< ids no quota has taken
    [[nodiscard]] std::uint64_t refused_puts() const { return refused_puts_.load(std::memory_order_relaxed); }

private:
    enum class State : std::uint8_t { free, active, free_pending };
    struct Entry {
        std::shared_ptr<void> data{};
        IoasidSet* set{};
        IoasidAllocator* source{}; ///< null: the own pool
        std::uint32_t next{};
        std::uint32_t previous{};
        std::uint32_t binds{};
        std::uint32_t spid{};
        std::array<std::uint16_t, ioasid_holders> references{};
        State state{State::free};
        bool has_spid{};
    };
    [[nodiscard]] static IoasidSetInfo info_of(const IoasidSet& set);
    static constexpr std::uint32_t chunk_size = 1024;
    using Chunk = std::array<Entry, chunk_size>;
    struct Subscription {
        IoasidNotifier* notifier; ///< null: cancelled during a delivery
        IoasidPriority priority;
        IoasidSetRef set;
        std::optional<IoasidToken> token;
        [[nodiscard]] bool wants(const IoasidSet& concerned) const;
        [[nodiscard]] bool same(const Subscription& other) const;
    };
    struct Allocator {
        IoasidAllocator* allocator;
        std::uint32_t outstanding;
    };
    /// What to give back once the locks are released.
    struct Reclaimed {
        IoasidAllocator* source{};
        HostPasid id{};
        std::shared_ptr<void> data{};
    };
    class NotifierContext;
    class Emitting;

    // With state_ held.
    [[nodiscard]] const Entry* entry(HostPasid id) const;
    [[nodiscard]] Entry& make_entry(std::uint32_t id);
    [[nodiscard]] IoasidResult<Entry*> active(const IoasidSetRef& set, HostPasid id) const;
    [[nodiscard]] IoasidResult<void> reserve(IoasidSet& set) const;
    [[nodiscard]] static IoasidInfo describe(HostPasid id, const Entry& entry);
    [[nodiscard]] bool install(IoasidSet& set, HostPasid id, std::shared_ptr<void> data, IoasidAllocator* source);
    [[nodiscard]] static IoasidResult<void> take(Entry& entry, IoasidHolder holder);
    void drop(HostPasid id, IoasidHolder holder, Reclaimed& out);
    void reclaim(HostPasid id, Entry& entry, Reclaimed& out);
    void leave_set(IoasidSet& set);
    void forget_spid(Entry& entry);
    // Without it.
    void give_back(Reclaimed& reclaimed);
    [[nodiscard]] IoasidResult<HostPasid> alloc_elsewhere(IoasidAllocator& allocator, const IoasidSetRef& set,
                                                          HostPasid min, HostPasid max, std::shared_ptr<void> data);
    void free_one(const IoasidSetRef& set, HostPasid id);
    [[nodiscard]] IoasidResult<void> count_bind(const IoasidSetRef& set, HostPasid id, bool up);
    void deliver(IoasidEvent::Change change, const IoasidSetRef& set, HostPasid id, std::optional<GuestPasid> spid);
    [[nodiscard]] IoasidResult<Registration> subscribe(Subscription subscription);
    void cancel(Subscription& subscription);

    const std::uint32_t last_id_;
    // Order: events_ before state_.
    std::mutex events_;                                        ///< one event at a time
    std::vector<std::unique_ptr<Subscription>> subscriptions_; // guarded by events_; by priority, then age
    std::vector<Allocator> allocators_;                        // changed with both locks held
    std::atomic<std::thread::id> delivering_{};                ///< the thread inside a handler

    mutable std::mutex state_;
    IdPool pool_;                                // guarded by state_; all ids in use, also those of allocators
    std::vector<std::unique_ptr<Chunk>> chunks_; // guarded by state_
    std::vector<IoasidSetRef> sets_;             // guarded by state_; oldest first
    std::uint32_t available_;                    // guarded by state_
    std::uint32_t from_pool_{};                  // guarded by state_
    std::uint32_t next_set_{1};                  // guarded by state_
    std::atomic<std::uint64_t> refused_puts_{0};
};

} // namespace inox::iommu
