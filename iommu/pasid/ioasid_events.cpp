// SPDX-License-Identifier: Apache-2.0
// Private data, SPIDs, bindings, notifiers and allocators of the IOASID core.
#include <algorithm>
#include <utility>

#include "iommu/pasid/ioasid_emitting.hpp"

namespace inox::iommu {
namespace {

using Failed = std::unexpected<IoasidErrc>;

} // namespace

class IoasidCore::NotifierContext final : public IoasidContext {
public:
    NotifierContext(IoasidCore& core, const IoasidSetRef& set, HostPasid id) : core_{core}, set_{set}, id_{id} {}
    IoasidResult<void> get(IoasidHolder holder) noexcept override { return core_.get(set_, id_, holder); }
    void put(IoasidHolder holder) noexcept override { core_.put(set_, id_, holder); }

private:
    IoasidCore& core_;
    const IoasidSetRef& set_;
    HostPasid id_;
};

IoasidResult<std::shared_ptr<void>> IoasidCore::find(const IoasidSetRef& set, HostPasid id,
                                                     const std::function<bool(void*)>& take) const {
    std::lock_guard lock{state_};
    const auto found = active(set, id);
    if (!found)
        return Failed{found.error()};
    const auto& data = (*found)->data;
    if (data && take && !take(data.get()))
        return Failed{IoasidErrc::not_found};
    return data;
}

IoasidResult<void> IoasidCore::attach_data(const IoasidSetRef& set, HostPasid id, std::shared_ptr<void> data) {
    std::lock_guard lock{state_};
    const auto found = active(set, id);
    if (!found)
        return Failed{found.error()};
    if (data && (*found)->data)
        return Failed{IoasidErrc::busy};
    data.swap((*found)->data); // the old data is destroyed after the lock is released
    return {};
}

IoasidResult<void> IoasidCore::attach_spid(const IoasidSetRef& set, HostPasid id, GuestPasid spid) {
    if (spid.raw() > max_ioasid)
        return Failed{IoasidErrc::invalid};
    std::lock_guard lock{state_};
    const auto found = active(set, id);
    if (!found)
        return Failed{found.error()};
    Entry& named = **found;
    if (named.binds != 0)
        return Failed{IoasidErrc::busy};
    if (named.has_spid || !set->spids_.try_emplace(spid.raw(), id.raw()).second)
        return Failed{IoasidErrc::exists};
    named.spid = spid.raw();
    named.has_spid = true;
    return {};
}

IoasidResult<void> IoasidCore::detach_spid(const IoasidSetRef& set, HostPasid id) {
    std::lock_guard lock{state_};
    const auto found = active(set, id);
    if (!found)
        return Failed{found.error()};
    if (!(*found)->has_spid)
        return Failed{IoasidErrc::not_found};
    if ((*found)->binds != 0)
        return Failed{IoasidErrc::busy};
    forget_spid(**found);
    return {};
}

IoasidResult<HostPasid> IoasidCore::find_by_spid(const IoasidSetRef& set, GuestPasid spid,
                                                 std::optional<IoasidHolder> holder) {
    std::lock_guard lock{state_};
    const auto it = set->spids_.find(spid.raw());
    if (it == set->spids_.end())
        return Failed{IoasidErrc::not_found};
    const HostPasid id{it->second};
    const auto found = active(set, id);
    if (!found)
        return Failed{found.error()};
    if (holder)
        if (const auto taken = take(**found, *holder); !taken)
            return Failed{taken.error()};
    return id;
}

IoasidResult<void> IoasidCore::count_bind(const IoasidSetRef& set, HostPasid id, bool up) {
    const Emitting emitting{*this};
    if (!emitting)
        return Failed{IoasidErrc::in_handler};
    std::optional<GuestPasid> spid;
    {
        std::lock_guard lock{state_};
        const auto found = active(set, id);
        if (!found)
            return Failed{found.error()};
        Entry& counted = **found;
        if (!up && counted.binds == 0)
            return Failed{IoasidErrc::not_found};
        if (counted.has_spid)
            spid = GuestPasid{counted.spid};
        counted.binds += up ? 1U : -1U;
        if (counted.binds != (up ? 1U : 0U))
            return {};
    }
    deliver(up ? IoasidEvent::Change::bind : IoasidEvent::Change::unbind, set, id, spid);
    return {};
}

IoasidResult<void> IoasidCore::bind(const IoasidSetRef& set, HostPasid id) { return count_bind(set, id, true); }
IoasidResult<void> IoasidCore::unbind(const IoasidSetRef& set, HostPasid id) { return count_bind(set, id, false); }

bool IoasidCore::Subscription::wants(const IoasidSet& concerned) const {
    return token ? *token == concerned.token_ : !set || set.get() == &concerned;
}

bool IoasidCore::Subscription::same(const Subscription& other) const {
    return notifier == other.notifier && set == other.set && token == other.token;
}

void IoasidCore::deliver(IoasidEvent::Change change, const IoasidSetRef& set, HostPasid id,
                         std::optional<GuestPasid> spid) {
    if (subscriptions_.empty())
        return;
    const IoasidSetRef alive = set; // a put in a handler may destroy the set
    NotifierContext context{*this, alive, id};
    delivering_.store(std::this_thread::get_id(), std::memory_order_relaxed);
    for (const auto& subscription : subscriptions_)
        if (subscription->notifier && subscription->wants(*alive))
            subscription->notifier->on_ioasid({change, alive, id, spid}, context);
    delivering_.store({}, std::memory_order_relaxed);
    std::erase_if(subscriptions_, [](const auto& each) { return !each->notifier; });
}

IoasidResult<Registration> IoasidCore::subscribe(Subscription subscription) {
    const Emitting emitting{*this};
    if (!emitting)
        return Failed{IoasidErrc::in_handler};
    for (const auto& other : subscriptions_)
        if (other->same(subscription))
            return Failed{IoasidErrc::busy};
    if (subscription.token) {
        std::lock_guard lock{state_};
        for (const auto& set : sets_)
            if (set->token_ == *subscription.token && set->used_ != 0)
                return Failed{IoasidErrc::busy};
    }
    auto owned = std::make_unique<Subscription>(std::move(subscription));
    auto* const handle = owned.get();
    const auto after =
        std::ranges::upper_bound(subscriptions_, owned->priority, {}, [](const auto& each) { return each->priority; });
    subscriptions_.insert(after, std::move(owned));
    return Registration{[this, handle] { cancel(*handle); }};
}

void IoasidCore::cancel(Subscription& subscription) {
    const Emitting emitting{*this};
    subscription.notifier = nullptr; // inside a handler, deliver() removes it
    if (emitting)
        std::erase_if(subscriptions_, [&](const auto& each) { return each.get() == &subscription; });
}

IoasidResult<Registration> IoasidCore::add_notifier(IoasidPriority priority, IoasidNotifier& notifier) {
    return subscribe({&notifier, priority, nullptr, {}});
}
IoasidResult<Registration> IoasidCore::add_notifier(const IoasidSetRef& set, IoasidPriority priority,
                                                    IoasidNotifier& notifier) {
    return subscribe({&notifier, priority, set, {}});
}
IoasidResult<Registration> IoasidCore::add_notifier(IoasidToken token, IoasidPriority priority,
                                                    IoasidNotifier& notifier) {
    return subscribe({&notifier, priority, nullptr, token});
}

IoasidResult<void> IoasidCore::add_allocator(IoasidAllocator& allocator) {
    const Emitting emitting{*this};
    if (!emitting)
        return Failed{IoasidErrc::in_handler};
    std::lock_guard lock{state_};
    for (const auto& other : allocators_)
        if (other.allocator == &allocator)
            return Failed{IoasidErrc::exists};
    if (from_pool_ != 0)
        return Failed{IoasidErrc::again};
    allocators_.push_back({&allocator, 0});
    return {};
}

IoasidResult<void> IoasidCore::remove_allocator(IoasidAllocator& allocator) {
    const Emitting emitting{*this};
    if (!emitting)
        return Failed{IoasidErrc::in_handler};
    std::lock_guard lock{state_};
    const auto it = std::ranges::find(allocators_, &allocator, &Allocator::allocator);
    if (it == allocators_.end())
        return Failed{IoasidErrc::not_found};
    if (it->outstanding != 0)
        return Failed{IoasidErrc::busy};
    allocators_.erase(it);
    return {};
}

} // namespace inox::iommu
