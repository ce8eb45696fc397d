// SPDX-License-Identifier: Apache-2.0
// Sets, and the life of an id. Events: ioasid_events.cpp.
#include "iommu/pasid/ioasid.hpp"

#include <algorithm>
#include <limits>

#include "iommu/pasid/ioasid_emitting.hpp"

namespace inox::iommu {
namespace {

using Failed = std::unexpected<IoasidErrc>;

constexpr std::size_t index_of(IoasidHolder holder) { return static_cast<std::size_t>(holder); }

unsigned total(const std::array<std::uint16_t, ioasid_holders>& references) {
    unsigned sum = 0;
    for (const auto count : references)
        sum += count;
    return sum;
}

} // namespace

IoasidCore::IoasidCore(std::uint32_t last_id)
    : last_id_{std::min(last_id, max_ioasid)}, pool_{last_id_ + 1},
      chunks_(last_id_ / chunk_size + 1), available_{last_id_} {
    pool_.take(0);
}

IoasidCore::~IoasidCore() = default;

IoasidResult<IoasidSetRef> IoasidCore::set_alloc(IoasidToken token, std::uint32_t quota) {
    if (token.owner == IoasidToken::Owner::process && token.value == 0)
        return Failed{IoasidErrc::invalid};
    std::lock_guard lock{state_};
    if (token.owner == IoasidToken::Owner::process)
        for (const auto& set : sets_)
            if (set->token_ == token)
                return Failed{IoasidErrc::exists};
    const std::uint32_t wanted = quota == 0 ? available_ : quota;
    if (wanted == 0 || wanted > available_)
        return Failed{IoasidErrc::no_space};
    auto set = std::make_shared<IoasidSet>();
    set->number_ = next_set_++;
    set->token_ = token;
    set->quota_ = wanted;
    available_ -= wanted;
    sets_.push_back(set);
    return set;
}

IoasidResult<void> IoasidCore::set_adjust(const IoasidSetRef& set, std::uint32_t quota) {
    std::lock_guard lock{state_};
    if (set->state_ != IoasidSet::State::live || quota == 0 || quota < set->used_)
        return Failed{IoasidErrc::invalid};
    if (quota > set->quota_ && quota - set->quota_ > available_)
        return Failed{IoasidErrc::no_space};
    available_ = available_ + set->quota_ - quota;
    set->quota_ = quota;
    return {};
}

IoasidSetRef IoasidCore::find_set(IoasidToken token) const {
    std::lock_guard lock{state_};
    for (const auto& set : sets_)
        if (set->token_ == token && set->state_ == IoasidSet::State::live)
            return set;
    return nullptr;
}

IoasidResult<void> IoasidCore::set_free(const IoasidSetRef& set) {
    std::lock_guard lock{state_};
    if (set->state_ == IoasidSet::State::gone)
        return Failed{IoasidErrc::not_found};
    set->state_ = IoasidSet::State::free_pending;
    const IoasidSetRef alive = set; // the caller's reference may be the one in sets_
    leave_set(*alive);
    if (alive->state_ != IoasidSet::State::gone)
        return Failed{IoasidErrc::busy};
    return {};
}

void IoasidCore::leave_set(IoasidSet& set) {
    if (set.state_ != IoasidSet::State::free_pending || set.used_ != 0)
        return;
    set.state_ = IoasidSet::State::gone;
    available_ += set.quota_;
    std::erase_if(sets_, [&](const IoasidSetRef& each) { return each.get() == &set; });
}

const IoasidCore::Entry* IoasidCore::entry(HostPasid id) const {
    if (id.raw() == 0 || id.raw() > last_id_)
        return nullptr;
    const auto& chunk = chunks_[id.raw() / chunk_size];
    return chunk ? &(*chunk)[id.raw() % chunk_size] : nullptr;
}

IoasidCore::Entry& IoasidCore::make_entry(std::uint32_t id) {
    auto& chunk = chunks_[id / chunk_size];
    if (!chunk)
        chunk = std::make_unique<Chunk>();
    return (*chunk)[id % chunk_size];
}

IoasidResult<IoasidCore::Entry*> IoasidCore::active(const IoasidSetRef& set, HostPasid id) const {
    auto* found = const_cast<Entry*>(entry(id)); // NOLINT: callers that only read take it as const
    if (!found || found->state == State::free)
        return Failed{IoasidErrc::not_found};
    if (found->set != set.get())
        return Failed{IoasidErrc::access};
    if (found->state == State::free_pending)
        return Failed{IoasidErrc::not_found};
    return found;
}

IoasidResult<void> IoasidCore::reserve(IoasidSet& set) const {
    if (set.state_ != IoasidSet::State::live)
        return Failed{IoasidErrc::invalid};
    if (set.used_ >= set.quota_)
        return Failed{IoasidErrc::no_space};
    ++set.used_;
    return {};
}

bool IoasidCore::install(IoasidSet& set, HostPasid id, std::shared_ptr<void> data, IoasidAllocator* source) {
    if (!pool_.is_free(id.raw()))
        return false;
    Entry& fresh = make_entry(id.raw());
    pool_.take(id.raw());
    fresh.data = std::move(data);
    fresh.set = &set;
    fresh.source = source;
    fresh.references[index_of(IoasidHolder::owner)] = 1;
    fresh.state = State::active;
    fresh.previous = 0;
    fresh.next = set.first_;
    if (set.first_ != 0)
        make_entry(set.first_).previous = id.raw();
    set.first_ = id.raw();
    return true;
}

IoasidResult<HostPasid> IoasidCore::alloc(const IoasidSetRef& set, HostPasid min, HostPasid max,
                                          std::shared_ptr<void> data) {
    const Emitting emitting{*this};
    if (!emitting)
        return Failed{IoasidErrc::in_handler};
    if (min > max || max.raw() == 0 || min.raw() > last_id_)
        return Failed{IoasidErrc::invalid};
    HostPasid id;
    {
        std::unique_lock lock{state_};
        if (const auto reserved = reserve(*set); !reserved)
            return Failed{reserved.error()};
        if (!allocators_.empty()) {
            lock.unlock();
            const auto got = alloc_elsewhere(*allocators_.front().allocator, set, min, max, std::move(data));
            if (!got)
                return got;
            id = *got;
        } else if (const auto lowest = pool_.lowest_free(min.raw(), max.raw())) {
            id = HostPasid{*lowest};
            (void)install(*set, id, std::move(data), nullptr);
            ++from_pool_;
        } else {
            --set->used_;
            return Failed{IoasidErrc::no_space};
        }
    }
    deliver(IoasidEvent::Change::alloc, set, id, {});
    return id;
}

IoasidResult<HostPasid> IoasidCore::alloc_elsewhere(IoasidAllocator& allocator, const IoasidSetRef& set, HostPasid min,
                                                    HostPasid max, std::shared_ptr<void> data) {
    const auto id = allocator.allocate(min, max);
    {
        std::lock_guard lock{state_};
        if (id && *id >= min && *id <= max && id->raw() != 0 && install(*set, *id, std::move(data), &allocator)) {
            ++allocators_.front().outstanding;
            return *id;
        }
        --set->used_;
        leave_set(*set);
    }
    if (id)
        allocator.release(*id);
    return Failed{IoasidErrc::no_space};
}

void IoasidCore::free_one(const IoasidSetRef& set, HostPasid id) {
    Reclaimed reclaimed;
    std::optional<GuestPasid> spid;
    {
        std::lock_guard lock{state_};
        const auto found = active(set, id);
        if (!found)
            return;
        Entry& freed = **found;
        const unsigned others = total(freed.references) - freed.references[index_of(IoasidHolder::owner)];
        if (freed.has_spid)
            spid = GuestPasid{freed.spid};
        freed.state = State::free_pending;
        if (others == 0)
            reclaim(id, freed, reclaimed);
    }
    if (reclaimed.id == HostPasid{}) {
        deliver(IoasidEvent::Change::free, set, id, spid);
        std::lock_guard lock{state_};
        // Handlers can have reclaimed it only if the owner had put its reference before.
        if (auto& freed = make_entry(id.raw()); freed.state == State::free_pending && freed.set == set.get()) {
            forget_spid(freed);
            if (freed.references[index_of(IoasidHolder::owner)] != 0)
                drop(id, IoasidHolder::owner, reclaimed);
        }
    }
    give_back(reclaimed);
}

void IoasidCore::free(const IoasidSetRef& set, HostPasid id) {
    if (const Emitting emitting{*this}; emitting)
        free_one(set, id);
}

void IoasidCore::free_all(const IoasidSetRef& set) {
    const Emitting emitting{*this};
    if (!emitting)
        return;
    std::vector<HostPasid> all;
    {
        std::lock_guard lock{state_};
        all.reserve(set->used_);
        for (std::uint32_t id = set->first_; id != 0; id = make_entry(id).next)
            all.emplace_back(id);
    }
    for (const HostPasid id : all)
        free_one(set, id);
}

IoasidResult<void> IoasidCore::take(Entry& entry, IoasidHolder holder) {
    auto& count = entry.references[index_of(holder)];
    if (count == std::numeric_limits<std::uint16_t>::max())
        return Failed{IoasidErrc::no_space};
    ++count;
    return {};
}

IoasidResult<void> IoasidCore::get(const IoasidSetRef& set, HostPasid id, IoasidHolder holder) {
    std::lock_guard lock{state_};
    const auto found = active(set, id);
    if (!found)
        return Failed{found.error()};
    return take(**found, holder);
}

void IoasidCore::put(const IoasidSetRef& set, HostPasid id, IoasidHolder holder) {
    Reclaimed reclaimed;
    {
        std::lock_guard lock{state_};
        const Entry* found = entry(id);
        if (found && found->state != State::free && found->set == set.get() &&
            found->references[index_of(holder)] != 0) {
            drop(id, holder, reclaimed);
        } else {
            refused_puts_.fetch_add(1, std::memory_order_relaxed);
            return;
        }
    }
    give_back(reclaimed);
}

void IoasidCore::drop(HostPasid id, IoasidHolder holder, Reclaimed& out) {
    Entry& dropped = make_entry(id.raw());
    --dropped.references[index_of(holder)];
    if (total(dropped.references) == 0)
        reclaim(id, dropped, out);
}

void IoasidCore::reclaim(HostPasid id, Entry& entry, Reclaimed& out) {
    IoasidSet& set = *entry.set;
    forget_spid(entry);
    if (entry.next != 0)
        make_entry(entry.next).previous = entry.previous;
    if (entry.previous != 0)
        make_entry(entry.previous).next = entry.next;
    else
        set.first_ = entry.next;
    out = {entry.source, id, std::move(entry.data)};
    if (!entry.source)
        --from_pool_;
    entry = Entry{};
    pool_.release(id.raw());
    --set.used_;
    leave_set(set);
}

void IoasidCore::forget_spid(Entry& entry) {
    if (std::exchange(entry.has_spid, false))
        entry.set->spids_.erase(entry.spid);
}

void IoasidCore::give_back(Reclaimed& reclaimed) {
    if (!reclaimed.source)
        return;
    reclaimed.source->release(reclaimed.id);
    std::lock_guard lock{state_};
    for (auto& [allocator, outstanding] : allocators_)
        if (allocator == reclaimed.source)
            --outstanding;
}

std::vector<IoasidSetInfo> IoasidCore::sets() const {
    std::lock_guard lock{state_};
    std::vector<IoasidSetInfo> list;
    for (const auto& set : sets_)
        list.push_back(info_of(*set));
    return list;
}

IoasidSetInfo IoasidCore::set_info(const IoasidSetRef& set) const {
    std::lock_guard lock{state_};
    return info_of(*set);
}

IoasidSetInfo IoasidCore::info_of(const IoasidSet& set) {
    return {set.number_, set.token_, set.quota_, set.used_, set.state_ == IoasidSet::State::free_pending};
}

std::vector<IoasidInfo> IoasidCore::ids(const IoasidSetRef& set, HostPasid from, std::size_t most) const {
    std::vector<IoasidInfo> list;
    for (auto next = from.raw() == 0 ? 1 : from.raw(); list.size() < most; ++next) {
        std::lock_guard lock{state_}; // released between ids, so that a look-up never waits for a long list
        const auto taken = pool_.next_taken(next);
        if (!taken)
            break;
        next = *taken;
        const Entry* found = entry(HostPasid{next});
        if (found && found->set == set.get())
            list.push_back(describe(HostPasid{next}, *found));
    }
    return list;
}

IoasidInfo IoasidCore::describe(HostPasid id, const Entry& entry) {
    IoasidInfo info{id, entry.state == State::free_pending, {}, entry.binds, entry.references};
    if (entry.has_spid)
        info.spid = GuestPasid{entry.spid};
    return info;
}

std::optional<IoasidInfo> IoasidCore::info(HostPasid id) const {
    std::lock_guard lock{state_};
    const Entry* found = entry(id);
    return found && found->state != State::free ? std::optional{describe(id, *found)} : std::nullopt;
}

std::uint32_t IoasidCore::available() const {
    std::lock_guard lock{state_};
    return available_;
}

} // namespace inox::iommu
