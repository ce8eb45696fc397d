// SPDX-License-Identifier: Apache-2.0
#include "devices/virtio/balloon.hpp"

#include <algorithm>
#include <cstring>
#include <linux/virtio_balloon.h>
#include <utility>

#include "devices/state_fields.hpp"

namespace inox::devices::virtio {
namespace {

constexpr std::uint64_t statistics_feature = feature::bit(VIRTIO_BALLOON_F_STATS_VQ);
constexpr std::uint64_t oom_feature = feature::bit(VIRTIO_BALLOON_F_DEFLATE_ON_OOM);
constexpr std::uint64_t hinting_feature = feature::bit(VIRTIO_BALLOON_F_FREE_PAGE_HINT);
constexpr std::uint64_t poison_feature = feature::bit(VIRTIO_BALLOON_F_PAGE_POISON);
constexpr std::uint64_t reporting_feature = feature::bit(VIRTIO_BALLOON_F_REPORTING);

constexpr std::uint32_t hinting_stop = VIRTIO_BALLOON_CMD_ID_STOP;
constexpr std::uint32_t hinting_done = VIRTIO_BALLOON_CMD_ID_DONE;

constexpr std::uint16_t queue_size = 128;
constexpr unsigned batch = 8;
constexpr std::size_t max_pages = 1024;     // in one request: four times what drivers send
constexpr std::size_t max_statistics = 512; // in one report
/// Memory that one turn releases. In small pages, this takes the host a millisecond or two.
constexpr std::uint64_t released_at_once = 64 * MiB;

constexpr unsigned start_later = 63; // of later_: no queue has this number

struct BalloonConfig {
    Le32 target;
    Le32 actual;
    Le32 command;
    Le32 poison;
};
static_assert(sizeof(BalloonConfig) == sizeof(virtio_balloon_config));

Result<std::uint32_t> pages_for(std::uint64_t bytes, const GuestMemory& memory) {
    if (!is_aligned(bytes, MiB) || bytes >= memory.size())
        return fail(Errc::config_value,
                    format("a balloon of %llu bytes does not suit a guest of %llu MiB",
                           static_cast<unsigned long long>(bytes),
                           static_cast<unsigned long long>(memory.size() / MiB)),
                    "give whole MiB, less than the guest's memory");
    return static_cast<std::uint32_t>(bytes / page_size);
}

} // namespace

Result<std::shared_ptr<Balloon>> Balloon::create(const BalloonOptions& options, EventLoop& loop,
                                                 const GuestMemory& memory) {
    const auto pages = TRY(pages_for(options.target, memory));
    if (options.statistics_interval.count() < 0)
        return fail(Errc::config_value, "a balloon's statistics interval is negative");
    std::shared_ptr<Balloon> balloon{new Balloon{options, loop, memory}};
    balloon->target_pages_ = pages;
    return balloon;
}

Balloon::Balloon(const BalloonOptions& options, EventLoop& loop, const GuestMemory& memory)
    : Device{options.id + " (virtio-balloon)"}, loop_{loop}, memory_{memory}, interval_{options.statistics_interval} {
    features_ = (interval_.count() != 0 ? statistics_feature : 0) | (options.deflate_on_oom ? oom_feature : 0) |
                (options.free_page_hinting ? hinting_feature | poison_feature : 0) |
                (options.free_page_reporting ? reporting_feature | poison_feature : 0);
    queue_sizes_.assign(2, queue_size);
    for (const std::uint64_t optional : {statistics_feature, hinting_feature, reporting_feature})
        if ((features_ & optional) != 0)
            queue_sizes_.push_back(queue_size);
}

void Balloon::read_config(std::uint64_t offset, std::span<std::byte> data) noexcept {
    const BalloonConfig config{target_pages_.load(), actual_pages_.load(), host_command_.load(), poison_.load()};
    const auto bytes = std::as_bytes(std::span{&config, 1});
    std::ranges::fill(data, std::byte{0});
    if (offset < bytes.size())
        std::memcpy(data.data(), bytes.data() + offset, std::min<std::size_t>(data.size(), bytes.size() - offset));
}

void Balloon::write_config(std::uint64_t offset, std::span<const std::byte> data) noexcept {
    if (data.size() != sizeof(std::uint32_t))
        return;
    const auto value = load_le<std::uint32_t>(data);
    if (offset == offsetof(BalloonConfig, actual))
        actual_pages_ = value;
    else if (offset == offsetof(BalloonConfig, poison))
        poison_ = value;
}

Result<void> Balloon::set_target(std::uint64_t bytes) noexcept {
    target_pages_ = TRY(pages_for(bytes, memory_));
    locked([&] { config_changed(); });
    return {};
}

Result<void> Balloon::need(std::uint64_t offered, const char* what) const {
    if ((features_ & offered) == 0)
        return fail(Errc::wrong_state, std::string{"the balloon was made without "} + what,
                    "ask for it before the guest starts");
    return {};
}

/// Queues that were not negotiated do not exist (5.5.2): those after them move up.
void Balloon::assign_roles() {
    roles_ = {Role::inflate, Role::deflate};
    if (negotiated(statistics_feature))
        roles_.push_back(Role::statistics);
    if (negotiated(hinting_feature))
        roles_.push_back(Role::hinting);
    if (negotiated(reporting_feature))
        roles_.push_back(Role::reporting);
    done_.assign(roles_.size(), 0);
}

/// Runs on a vCPU's thread.
void Balloon::on_activate() noexcept {
    assign_roles();
    later_.post(loop_, start_later, weak_from_this(), [](Balloon& balloon) {
        for (unsigned i = 0; i < balloon.queue_sizes_.size(); ++i)
            balloon.kick(i); // the driver may have notified before the device was ready
        balloon.schedule_statistics();
    });
}

void Balloon::on_reset() noexcept {
    roles_.clear();
    report_ = {};
    guest_command_ = -1;
    actual_pages_ = 0;
    poison_ = 0;
    host_command_ = hinting_stop;
}

void Balloon::on_reset_queue(unsigned index) noexcept {
    if (index < done_.size())
        done_[index] = 0;
    if (index == index_of(Role::statistics))
        report_ = {};
}

std::optional<unsigned> Balloon::index_of(Role role) const {
    const auto at = std::ranges::find(roles_, role);
    return at == roles_.end() ? std::nullopt : std::optional{static_cast<unsigned>(at - roles_.begin())};
}

void Balloon::on_kick(unsigned index) noexcept {
    if (index >= roles_.size())
        return;
    Queue* ring = queue(index);
    const auto hold = memory().hold();
    if (!ring->refresh())
        return;
    const auto served = serve(*ring, chain_, batch, [&](Chain& chain) { return serve_one(index, *ring, chain); });
    signal(index);
    if (served != Served::all)
        kick_later(index);
}

void Balloon::kick_later(unsigned index) noexcept {
    later_.post(loop_, index, weak_from_this(), [index](Balloon& balloon) { balloon.kick(index); });
}

/// False when only a part was done; the rest waits for the next turn.
bool Balloon::serve_one(unsigned index, Queue& queue, Chain& chain) noexcept {
    std::uint64_t& done = done_[index];
    switch (roles_[index]) {
    case Role::statistics:
        take_statistics(queue, chain);
        return true;
    case Role::inflate:
        inflate(chain);
        break;
    case Role::deflate:
        break; // the guest touches the pages to have them back
    case Role::hinting:
        if (!hint(chain, done))
            return false;
        break;
    case Role::reporting:
        if (!release_free(chain, done))
            return false;
        break;
    }
    done = 0;
    return true;
}

void Balloon::inflate(Chain& chain) noexcept {
    pages_.resize(max_pages);
    const auto bytes = chain.copy_from(0, std::as_writable_bytes(std::span{pages_}));
    if (!chain.writable.empty() || Chain::bytes(chain.readable) > bytes || bytes % sizeof pages_[0] != 0)
        note_bad_request("a list of pages that is too long, cut off or writable");
    pages_.resize(bytes / sizeof pages_[0]);
    std::ranges::sort(pages_);
    for (std::size_t first = 0; first < pages_.size();) {
        std::size_t next = first + 1;
        while (next < pages_.size() && pages_[next] <= pages_[next - 1] + 1)
            ++next;
        release_pages(pages_[first], pages_[next - 1]);
        chain.work += Turn::system_call;
        first = next;
    }
}

void Balloon::release_pages(std::uint32_t first, std::uint32_t last) noexcept {
    const auto wanted = *Range<Gpa>::closed(Gpa{std::uint64_t{first} * page_size},
                                            Gpa{std::uint64_t{last} * page_size + (page_size - 1)});
    std::uint64_t inside = 0;
    for (const RamRegion& region : memory_.regions()) {
        const auto part = Range<Gpa>::closed(std::max(wanted.start(), region.range.start()),
                                             std::min(wanted.last(), region.range.last()));
        if (!part)
            continue;
        inside += part->size();
        release(region.host.subspan(part->start().raw() - region.range.start().raw(), part->size()));
    }
    if (inside != wanted.size())
        note_bad_request("a page outside memory");
}

/// Releases pages that the guest does not use until it writes to them. With a poison value they must keep it (5.5.6.5).
/// `done` bytes were released in earlier turns. False when the rest has to wait for another turn.
bool Balloon::release_free(Chain& chain, std::uint64_t& done) noexcept {
    if (!chain.readable.empty())
        note_bad_request("free pages that are not writable");
    if (negotiated(poison_feature) && poison_ != 0)
        return true;
    std::uint64_t skip = done;
    std::uint64_t left = released_at_once;
    for (const iovec& piece : chain.writable) {
        const std::uint64_t skipped = std::min<std::uint64_t>(skip, piece.iov_len);
        skip -= skipped;
        std::byte* const start = static_cast<std::byte*>(piece.iov_base) + skipped;
        std::uint64_t size = piece.iov_len - skipped;
        const bool rest = size > left;
        if (rest) // does not cut inside a huge page
            size = left - std::min(left, reinterpret_cast<std::uint64_t>(start + left) % (2 * MiB)); // NOLINT
        release({start, size});
        chain.work += Turn::system_call;
        left -= size;
        done += size;
        if (rest)
            return false;
    }
    return true;
}

void Balloon::release(std::span<std::byte> bytes) noexcept {
    const std::uint64_t unit = memory_.huge_pages() == HugePages::two_mib ? 2 * MiB : page_size;
    const auto address = reinterpret_cast<std::uint64_t>(bytes.data()); // NOLINT: for its alignment
    const std::uint64_t start = align_up(address, unit);
    const std::uint64_t end = align_down(address + bytes.size(), unit);
    if (pinned_ || start >= end)
        return;
    if (memory_.discard(bytes.subspan(start - address, end - start)))
        released_.fetch_add(end - start, std::memory_order_relaxed);
}

// Statistics.

void Balloon::take_statistics(Queue& queue, Chain& chain) noexcept {
    std::array<std::byte, max_statistics> report{};
    const auto bytes = chain.copy_from(0, report);
    if (!chain.writable.empty())
        note_bad_request("a report of statistics is writable");
    statistics_ = BalloonStatistics::parse(std::span{report}.first(bytes));
    queue.push(report_, 0); // the device keeps one report only
    report_ = std::move(chain.head);
}

void Balloon::schedule_statistics() noexcept {
    if (interval_.count() != 0)
        timer_ = loop_.after(interval_, [this] { ask_statistics(); });
}

void Balloon::ask_statistics() noexcept {
    bool active = false;
    locked([&] {
        active = true;
        give_report_back();
    });
    if (active)
        schedule_statistics(); // otherwise the next driver's start does, or the end of a rest
}

/// The guest answers with a new report.
void Balloon::give_report_back() noexcept {
    const auto index = index_of(Role::statistics);
    if (!index || !report_ || stopped())
        return;
    Queue* ring = queue(*index);
    const auto hold = memory().hold();
    if (!ring->refresh())
        return;
    ring->push(report_, 0);
    signal(*index);
}

Result<BalloonStatistics> Balloon::statistics() const {
    TRY_VOID(need(statistics_feature, "statistics"));
    return statistics_;
}

Result<void> Balloon::set_statistics_interval(std::chrono::seconds interval) {
    TRY_VOID(need(statistics_feature, "statistics"));
    if (interval.count() <= 0)
        return fail(Errc::wrong_state, "statistics cannot be turned off while the guest runs",
                    "give an interval of at least a second");
    interval_ = interval;
    schedule_statistics();
    return {};
}

// Rest.

/// A run of hinting is over when the machine is restored: what the guest hinted then was in the memory that was saved.
void Balloon::on_state(State& state) {
    std::int64_t guest_command = guest_command_;
    state.version(1);
    atomic_number(state, "target_pages", target_pages_, 0, static_cast<std::uint32_t>(memory_.size() / page_size));
    atomic_number(state, "actual_pages", actual_pages_);
    atomic_number(state, "host_command", host_command_);
    atomic_number(state, "poison", poison_);
    state.number("last_run", last_run_, hinting_done);
    state.flag("acknowledge", acknowledge_);
    state.signed_number("guest_command", guest_command);
    state.check(guest_command >= -1 && guest_command <= std::int64_t{~0U}, "a command that the guest cannot have sent");
    statistics_state(state);
    if (!state.restores() || !state.ok())
        return;
    guest_command_ = guest_command;
    host_command_ = std::min(host_command_.load(), hinting_done);
    if (active())
        assign_roles();
}

void Balloon::statistics_state(State& state) {
    auto interval = static_cast<std::uint64_t>(interval_.count());
    constexpr std::uint64_t longest = 1'000'000'000;
    state.number("statistics_interval", interval, std::uint64_t{0}, longest);
    state.check((interval != 0) == ((features_ & statistics_feature) != 0), "statistics are on at one side only");
    interval_ = std::chrono::seconds{interval};
    state.part("statistics", [this](State& part) {
        for (std::size_t tag = 0; tag < statistics_.values.size(); ++tag)
            optional_number(part, BalloonStatistics::names[tag], statistics_.values[tag]);
    });
}

/// The buffer that the device keeps goes back: the guest brings another.
bool Balloon::on_drain() noexcept {
    give_report_back();
    return true;
}

void Balloon::on_resume() noexcept {
    schedule_statistics();
    config_changed();
}

// Free page hinting (5.5.6.4).

bool Balloon::hint(Chain& chain, std::uint64_t& done) noexcept {
    if (!chain.readable.empty()) {
        Le32 command{};
        if (chain.copy_from(0, std::as_writable_bytes(std::span{&command, 1})) != sizeof command) {
            note_bad_request("a hinting command is cut off");
            return true;
        }
        guest_command_ = std::uint32_t{command};
        if (command == hinting_stop && acknowledge_ && host_command_ > hinting_done)
            set_host_command(hinting_done);
        return true;
    }
    // Pages of a run that has ended may be in use again.
    return guest_command_ <= hinting_done || guest_command_ != host_command_ || release_free(chain, done);
}

void Balloon::set_host_command(std::uint32_t command) noexcept {
    host_command_ = command;
    config_changed();
}

Result<void> Balloon::start_hinting(bool acknowledge) {
    TRY_VOID(need(hinting_feature, "free page hinting"));
    locked([&] {
        acknowledge_ = acknowledge;
        last_run_ = last_run_ == ~0U ? hinting_done + 1 : last_run_ + 1;
        set_host_command(last_run_);
    });
    return {};
}

Result<void> Balloon::stop_hinting() {
    TRY_VOID(need(hinting_feature, "free page hinting"));
    locked([&] { set_host_command(hinting_done); });
    return {};
}

Result<BalloonHinting> Balloon::hinting() const {
    TRY_VOID(need(hinting_feature, "free page hinting"));
    const std::int64_t last = guest_command_;
    return BalloonHinting{host_command_, last < 0 ? std::nullopt : std::optional{static_cast<std::uint32_t>(last)}};
}

} // namespace inox::devices::virtio
