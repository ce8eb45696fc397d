// SPDX-License-Identifier: Apache-2.0
// A small world, explored completely: 2 sets, 3 ids, an owner, a stranger, a device and an IOMMU that act in any order,
// and a CPU that follows the events. The test visits every reachable state, tries every action in each, and checks the
// invariants after each action.
#include <array>
#include <deque>
#include <map>
#include <set>
#include <string>

#include "tests/catch.hpp"
#include "tests/fakes/ioasid_actors.hpp"

namespace inox::iommu_ioasid_model_test {

using namespace fakes::ioasid_words;

namespace {

constexpr unsigned ids = 3;
constexpr std::uint32_t quota_a = 2;
constexpr std::uint32_t quota_b = 1;
constexpr GuestPasid spid{9};

/// The actions of the actors. Those up to stranger_alloc concern no id, the others one of the three.
enum class Do : std::uint8_t {
    owner_alloc,
    device_find, ///< by SPID, with a reference
    stranger_alloc,
    owner_spid,
    owner_bind,
    owner_unbind,
    owner_free,
    stranger_get,
    stranger_put,
    stranger_free,
    stranger_bind,
    device_put,
    iommu_get,
    iommu_put,
    count,
};
struct Action {
    Do what;
    HostPasid id;
};

std::vector<Action> actions() {
    std::vector<Action> list;
    for (auto what = 0; what < static_cast<int>(Do::count); ++what)
        for (std::uint32_t id = 1; id <= (what <= static_cast<int>(Do::stranger_alloc) ? 1 : ids); ++id)
            list.push_back({static_cast<Do>(what), HostPasid{id}});
    return list;
}

class World final : iommu::IoasidNotifier {
public:
    World() {
        a_ = *core_.set_alloc({iommu::IoasidToken::Owner::plain, 1}, quota_a);
        b_ = *core_.set_alloc({iommu::IoasidToken::Owner::plain, 2}, quota_b);
        registration_ = *core_.add_notifier(a_, iommu::IoasidPriority::cpu, *this);
    }

    /// False when the actor would not do that: it drops only references that it has, and takes at most one to an id.
    bool act(Action action) {
        const auto n = action.id.raw();
        switch (action.what) {
        case Do::owner_alloc:
            return fresh(core_.alloc(a_, HostPasid{1}, HostPasid{ids}), quota_a, a_);
        case Do::stranger_alloc:
            return fresh(core_.alloc(b_, HostPasid{1}, HostPasid{ids}), quota_b, b_);
        case Do::device_find: {
            const auto found = core_.find_by_spid(a_, spid);
            if (found && device_[found->raw()])
                return false;
            const auto got = core_.find_by_spid(a_, spid, IoasidHolder::device);
            expect(got.has_value() == found.has_value());
            if (got)
                device_[got->raw()] = true;
            return got.has_value();
        }
        case Do::owner_spid:
            return core_.attach_spid(a_, action.id, spid).has_value();
        case Do::owner_bind:
            if (const auto info = core_.info(action.id); info && info->binds != 0)
                return false;
            return core_.bind(a_, action.id).has_value();
        case Do::owner_unbind:
            return core_.unbind(a_, action.id).has_value();
        case Do::owner_free:
            core_.free(a_, action.id);
            return true;
        case Do::stranger_get:
            if (!stranger_[n] && core_.get(b_, action.id, IoasidHolder::other))
                return stranger_[n] = true;
            return false;
        case Do::stranger_put:
            core_.put(b_, action.id, IoasidHolder::other);
            stranger_[n] = false;
            return true;
        case Do::stranger_free:
            core_.free(b_, action.id);
            return true;
        case Do::stranger_bind:
            if (const auto info = core_.info(action.id); info && info->binds != 0)
                return core_.unbind(b_, action.id).has_value();
            return core_.bind(b_, action.id).has_value();
        case Do::device_put:
            if (!std::exchange(device_[n], false))
                return false;
            core_.put(a_, action.id, IoasidHolder::device);
            return true;
        case Do::iommu_get:
            if (!iommu_[n] && core_.get(a_, action.id, IoasidHolder::iommu))
                return iommu_[n] = true;
            return false;
        case Do::iommu_put:
            if (!std::exchange(iommu_[n], false))
                return false;
            core_.put(a_, action.id, IoasidHolder::iommu);
            return true;
        case Do::count:
            break;
        }
        return false;
    }

    void on_ioasid(const iommu::IoasidEvent& event, iommu::IoasidContext& context) noexcept override {
        using Change = iommu::IoasidEvent::Change;
        const auto info = core_.info(event.id);
        expect(info.has_value() && info->free_pending == (event.change == Change::free));
        if (event.change == Change::bind && event.spid) {
            expect(context.get(IoasidHolder::cpu).has_value() && !table_.contains(event.spid->raw()));
            table_[event.spid->raw()] = event.id;
        } else if (event.change == Change::unbind || event.change == Change::free) {
            if (std::erase_if(table_, [&](const auto& entry) { return entry.second == event.id; }) != 0)
                context.put(IoasidHolder::cpu);
        }
    }

    /// All state on which the future depends.
    [[nodiscard]] std::string key() const {
        std::string text;
        for (std::uint32_t n = 1; n <= ids; ++n) {
            const auto info = core_.info(HostPasid{n});
            if (!info) {
                text += "-|";
                continue;
            }
            text += owned_by_a(n) ? 'a' : 'b';
            text += info->free_pending ? 'p' : '.';
            text += info->spid ? 's' : '.';
            text += static_cast<char>('0' + info->binds);
            for (const auto count : info->references)
                text += static_cast<char>('0' + count);
            text += '|';
        }
        return text;
    }

    void check() {
        std::array<std::uint32_t, 2> used{};
        std::set<std::uint32_t> bound, named;
        for (std::uint32_t n = 1; n <= ids; ++n) {
            const HostPasid id{n};
            const auto info = core_.info(id);
            if (!info) {
                expect(!device_[n] && !iommu_[n] && !stranger_[n]);
                continue;
            }
            const bool a = owned_by_a(n);
            ++used[a ? 0 : 1];
            const bool in_table = table_.contains(spid.raw()) && table_.at(spid.raw()) == id;
            // Every reference is accounted for, and a pending id has at least one.
            expect(info->references == std::array<std::uint16_t, 5>{std::uint16_t(!info->free_pending), iommu_[n],
                                                                    in_table, device_[n], stranger_[n]});
            expect(info->total() != 0);
            expect(a ? !stranger_[n] : !device_[n] && !iommu_[n] && !in_table);
            // No look-up finds a pending id.
            const auto& set = a ? a_ : b_;
            expect(core_.find(set, id).has_value() == !info->free_pending);
            const auto foreign = core_.find(a ? b_ : a_, id);
            expect(!foreign && foreign.error() == IoasidErrc::access);
            if (!info->free_pending && info->binds != 0 && info->spid)
                bound.insert(n);
            if (!info->free_pending && info->spid)
                named.insert(n);
            expect(!info->free_pending || !in_table);
        }
        expect(used[0] <= quota_a && used[1] <= quota_b);
        for (const auto& set : core_.sets())
            expect(set.used == used[set.number - 1]);
        expect(core_.available() == 0);
        // The table has exactly the bound pairs, and the SPID names exactly the live id that has it.
        expect(bound.size() == table_.size() && (table_.empty() || bound.contains(table_.at(spid.raw()).raw())));
        const auto found = core_.find_by_spid(a_, spid);
        expect(found ? named == std::set{found->raw()} : named.empty());
    }

    /// From any state, freeing and dropping everything leaves nothing.
    void drain() {
        core_.free_all(a_);
        core_.free_all(b_);
        for (std::uint32_t n = 1; n <= ids; ++n)
            for (const auto what : {Do::device_put, Do::iommu_put, Do::stranger_put})
                (void)act({what, HostPasid{n}});
        for (const auto& set : core_.sets())
            expect(set.used == 0);
        expect(table_.empty());
        for (std::uint32_t n = 1; n <= ids; ++n)
            expect(!core_.info(HostPasid{n}));
    }

    [[nodiscard]] std::optional<iommu::IoasidInfo> info(std::uint32_t n) const { return core_.info(HostPasid{n}); }
    [[nodiscard]] bool owned_by_a(std::uint32_t n) const {
        const auto found = core_.find(b_, HostPasid{n});
        return !found && found.error() == IoasidErrc::access;
    }
    unsigned broken{0};

private:
    void expect(bool condition) { broken += condition ? 0 : 1; }

    /// A new id has no state of an earlier life, and none is given out when the quota or the ids are used up.
    bool fresh(const iommu::IoasidResult<HostPasid>& id, std::uint32_t quota, const iommu::IoasidSetRef& set) {
        std::uint32_t used = 0, free = 0;
        for (const auto& info : core_.sets())
            used = info.number == set->number() ? info.used : used;
        for (std::uint32_t n = 1; n <= ids; ++n)
            free += core_.info(HostPasid{n}) ? 0 : 1;
        if (!id) {
            expect(id.error() == IoasidErrc::no_space && (used == quota || free == 0));
            return false;
        }
        const auto info = core_.info(*id);
        expect(info && info->total() == 1 && info->binds == 0 && !info->spid && !info->free_pending);
        return true;
    }

    iommu::IoasidCore core_{ids};
    iommu::IoasidSetRef a_{}, b_{};
    std::map<std::uint32_t, HostPasid> table_{};
    std::array<bool, ids + 1> device_{}, iommu_{}, stranger_{};
    Registration registration_{};
};

} // namespace

TEST_CASE("in every state that actors can reach the invariants hold") {
    const auto all = actions();
    std::map<std::string, std::vector<Action>> seen{{World{}.key(), {}}};
    std::deque<std::string> todo{World{}.key()}; // the oldest first, to find short paths
    unsigned broken = 0, transitions = 0;
    while (!todo.empty() && broken == 0) {
        const auto path = seen.at(todo.front());
        todo.pop_front();
        const auto replay = [&](World& world) {
            for (const Action& action : path)
                (void)world.act(action);
        };
        for (const Action& action : all) {
            World world;
            replay(world);
            std::array<std::optional<iommu::IoasidInfo>, ids + 1> before{};
            std::array<bool, ids + 1> of_a{};
            const bool stranger = action.what == Do::stranger_get || action.what == Do::stranger_put ||
                                  action.what == Do::stranger_free || action.what == Do::stranger_bind;
            for (std::uint32_t n = 1; stranger && n <= ids; ++n) {
                before[n] = world.info(n);
                of_a[n] = world.owned_by_a(n);
            }
            const bool done = world.act(action);
            ++transitions;
            world.check();
            for (std::uint32_t n = 1; stranger && n <= ids; ++n)
                if (of_a[n]) // a stranger's action never reaches another set's id
                    world.broken += world.info(n)->references != before[n]->references ||
                                    world.info(n)->binds != before[n]->binds ||
                                    world.info(n)->free_pending != before[n]->free_pending;
            if (auto key = world.key(); done && !seen.contains(key)) {
                auto longer = path;
                longer.push_back(action);
                seen.emplace(key, std::move(longer));
                todo.push_back(std::move(key));
                world.drain();
            }
            broken += world.broken;
            if (world.broken != 0) {
                INFO("after action " << static_cast<int>(action.what) << " on " << action.id.raw() << " in state "
                                     << world.key());
                CHECK(world.broken == 0);
            }
        }
    }
    CHECK(broken == 0);
    CHECK(seen.size() > 1000);
    INFO(seen.size() << " states, " << transitions << " transitions");
    CHECK(transitions == seen.size() * all.size());
}

} // namespace inox::iommu_ioasid_model_test
