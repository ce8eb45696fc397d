// SPDX-License-Identifier: Apache-2.0
#include "vmm/instance/move/move_out.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <system_error>
#include <utility>

#include "vmm/base/log.hpp"
#include "vmm/base/outside/outside.hpp"
#include "vmm/base/thread_failure.hpp"
#include "vmm/base/thread_kind.hpp"
#include "vmm/config/config_state.hpp"
#include "vmm/snapshot/memory_file.hpp"
#include "vmm/snapshot/state_file.hpp"

namespace inox {
namespace {

using namespace std::chrono_literals;
using move::Type;

constexpr auto to_load = 60s; // the other side makes a machine
constexpr unsigned most_in_vain = 8;
constexpr std::size_t step_pages = 1024; // looked at together

} // namespace

MoveOut::MoveOut(EventLoop& loop, Machine& machine, Plan plan, Done done)
    : loop_{loop}, machine_{machine}, plan_{std::move(plan)}, done_{std::move(done)}, rest_{loop, machine},
      channel_{std::make_unique<move::Channel>(std::move(plan_.socket))}, tracked_before_{
                                                                              machine.memory().dirty().tracked()} {}

Result<std::unique_ptr<MoveOut>> MoveOut::start(EventLoop& loop, Machine& machine, Plan plan, Done done) {
    TRY_VOID(machine.saveable());
    std::unique_ptr<MoveOut> out{new MoveOut{loop, machine, std::move(plan), std::move(done)}};
    const auto words = machine.memory().dirty().words();
    out->pending_.resize(words);
    out->taken_.resize(words);
    static_cast<void>(snapshot::page_map());
    out->run([raw = out.get()] { return raw->greet(); }, &MoveOut::copy);
    return out;
}

/// Work that waits, on a thread of its own; then the next step on the loop.
void MoveOut::run(std::move_only_function<Result<void>()> work, void (MoveOut::*then)()) {
    try {
        thread_ = std::thread{[this, alive = std::weak_ptr{alive_}, work = std::move(work), then]() mutable {
            enter_thread(ThreadKind::snapshot, "move");
            auto worked = work();
            loop_.post([this, alive, then, worked = std::move(worked)]() mutable {
                if (!alive.lock())
                    return;
                thread_.join();
                if (worked && !stop_)
                    return (this->*then)();
                end(stop_ ? make_error(Errc::wrong_state, "the move was given up") : std::move(worked).error());
            });
        }};
    } catch (const std::system_error& error) {
        timer_ = loop_.after(0ms, [this, why = fail_thread("the thread of a move", error).error()] { end(why); });
    }
}

Result<void> MoveOut::greet() {
    if (!plan_.path.empty() && !channel_->connect(plan_.path))
        return fail_errno(Errc::host_error, "cannot connect to " + plan_.path,
                          "start `inox run --incoming unix:PATH` there first; --allow has to name the socket's folder");
    snapshot::Parts parts;
    parts.save("config", [&](State& state) { config_state(state, plan_.config); });
    parts.save("mmds", [&](State& state) { mmds_state(state, plan_.mmds); });
    TRY_VOID(channel_->send(Type::hello, snapshot::encode(parts.value())));
    return channel_->expect(Type::ready);
}

void MoveOut::copy() {
    if (progress_.round == 0)
        if (auto tracked = machine_.track_writes(true); !tracked)
            return end(std::move(tracked).error());
    ++progress_.round;
    round_began_ = Clock::now();
    sent_before_ = sent_;
    run([this] { return send_round(); }, &MoveOut::on_round);
}

// Rounds, on the thread

Result<void> MoveOut::flush() {
    if (zeros_ != 0) {
        const std::array<Le64, 2> run{Le64{first_}, Le64{zeros_}};
        TRY_VOID(channel_->send(Type::zeros, std::as_bytes(std::span{run})));
    } else if (!run_.empty()) {
        const Le64 first{first_};
        TRY_VOID(channel_->send(Type::pages, std::as_bytes(std::span{&first, 1}), run_));
        sent_ += run_.size();
    }
    zeros_ = 0;
    run_ = {};
    return {};
}

/// The bytes are the guest's, which goes on writing: what it changes is in the log.
Result<void> MoveOut::add_page(std::uint64_t number, std::span<const std::byte> page) {
    const bool zero = snapshot::is_zero(page);
    if (zero && progress_.round == 1)
        return {}; // as it is there
    const auto count = zeros_ + run_.size() / page_size;
    const bool follows = count != 0 && number == first_ + count && zero == (zeros_ != 0);
    if (!follows || (!zero && (count == move::most_pages || page.data() != run_.data() + run_.size())))
        TRY_VOID(flush());
    if (zeros_ == 0 && run_.empty())
        first_ = number;
    if (zero)
        ++zeros_;
    else
        run_ = {run_.empty() ? page.data() : run_.data(), run_.size() + page_size};
    return {};
}

Result<void> MoveOut::send_round() {
    const auto& memory = machine_.memory();
    for (const auto& region : memory.regions()) {
        for (std::size_t start = 0; start < region.host.size(); start += step_pages * page_size) {
            if (stop_)
                return fail(Errc::wrong_state, "the move was given up");
            std::vector<bool> marks(std::min(step_pages, (region.host.size() - start) / page_size));
            const auto first = (region.file_offset + start) / page_size;
            if (progress_.round == 1)
                snapshot::mark_pages(memory, region, start, snapshot::page_map(), snapshot::Pages::all, marks);
            else
                for (std::size_t i = 0; i < marks.size(); ++i)
                    marks[i] = (pending_[(first + i) / 64] >> (first + i) % 64 & 1) != 0;
            for (std::size_t i = 0; i < marks.size(); ++i)
                if (marks[i])
                    TRY_VOID(add_page(first + i, region.host.subspan(start + i * page_size, page_size)));
        }
        TRY_VOID(flush()); // a run lies in one region
    }
    return {};
}

// On the loop again: devices write on this thread, so none is between a mark and its write.

Result<void> MoveOut::take_written(Sent sent) {
    auto& dirty = machine_.memory().dirty();
    TRY_VOID(machine_.collect_writes());
    std::uint64_t pages = 0;
    for (std::size_t i = 0; i < pending_.size(); ++i) {
        pending_[i] = (sent == Sent::yes ? 0 : pending_[i]) | dirty.take_word(i);
        taken_[i] |= pending_[i];
        pages += static_cast<unsigned>(std::popcount(pending_[i]));
    }
    progress_.left = pages * page_size;
    progress_.sent = sent_;
    return {};
}

void MoveOut::on_round() {
    constexpr std::uint64_t enough = 1 * MiB;
    const std::chrono::duration<double> took = Clock::now() - round_began_;
    if (const auto sent = sent_ - sent_before_; sent >= enough)
        bytes_a_second_ = static_cast<double>(sent) / std::max(took.count(), 1e-4);
    if (auto taken = take_written(Sent::yes); !taken)
        return end(std::move(taken).error());
    if (plan_.progress)
        plan_.progress(progress_);
    // Half of the time is for the state, and for the machine that is made of it.
    const std::chrono::duration<double> rest{static_cast<double>(progress_.left) / bytes_a_second_};
    if (rest <= plan_.downtime / 2.0)
        return stop_guest();
    in_vain_ = progress_.left < least_left_ - least_left_ / 16 ? 0 : in_vain_ + 1;
    least_left_ = std::min(least_left_, progress_.left);
    if (in_vain_ == most_in_vain)
        return end(make_error(Errc::timed_out, "the guest writes to its memory faster than the stream carries it",
                              "give a longer --downtime, or let the guest do less"));
    copy();
}

void MoveOut::stop_guest() {
    stopped_at_ = Clock::now();
    rest_.begin(stop_, [this](const Result<void>& rest) { on_rest(rest); });
}

void MoveOut::on_rest(const Result<void>& rest) {
    if (stop_)
        return end(make_error(Errc::wrong_state, "the move was given up"));
    if (!rest)
        return end(rest.error());
    if (auto collected = collect_state(); !collected)
        return end(std::move(collected).error());
    ++progress_.round;
    run([this] { return send_rest(); }, &MoveOut::on_loaded);
}

Result<void> MoveOut::collect_state() {
    snapshot::Parts parts;
    TRY_VOID(machine_.save(parts));
    bool paused = machine_.state() == Machine::State::paused;
    parts.save("move", [&](State& state) {
        state.version(1);
        state.flag("paused", paused);
    });
    state_ = snapshot::encode(parts.value());
    TRY_VOID(machine_.lock_images(false));
    return take_written(Sent::no); // last: reading the state writes, too
}

Result<void> MoveOut::send_rest() {
    TRY_VOID(send_round());
    TRY_VOID(channel_->send(Type::state, state_));
    return channel_->expect(Type::loaded, to_load);
}

void MoveOut::on_loaded() {
    handed_over_ = true;
    static_cast<void>(machine_.pause()); // it is held, too, and its devices are at rest
    run([this] { return hand_over(); }, &MoveOut::on_running);
}

Result<void> MoveOut::hand_over() {
    TRY_VOID(channel_->send(Type::go));
    return channel_->expect(Type::running, to_load);
}

void MoveOut::on_running() {
    progress_.down = Clock::now() - stopped_at_;
    progress_.sent = sent_;
    progress_.left = 0;
    auto done = std::exchange(done_, nullptr);
    done(progress_); // may destroy this
}

void MoveOut::end(Error why) {
    timer_.reset();
    if (handed_over_) {
        why.what = "nobody knows whether the guest runs at the other side, so it stays paused here: " + why.what;
        why.hint = "if it does not run there: inox ctl resume; else: inox ctl end";
    } else {
        take_back();
    }
    auto done = std::exchange(done_, nullptr);
    done(std::unexpected<Error>{std::move(why)}); // may destroy this
}

Result<void> MoveOut::cancel() {
    if (handed_over_)
        return fail(Errc::wrong_state, "the guest was handed over already", "resume it, if it does not run there");
    stop_ = true;
    channel_->stop();
    return {};
}

void MoveOut::take_back() {
    auto& dirty = machine_.memory().dirty();
    for (std::size_t i = 0; i < taken_.size(); ++i)
        dirty.add_word(i, std::exchange(taken_[i], 0));
    if (!tracked_before_ && progress_.round != 0)
        static_cast<void>(machine_.track_writes(false));
    handed_over_ = false;
    if (!rest_.held())
        return;
    if (auto locked = machine_.lock_images(true); !locked)
        log::write(log::Level::error, "after a move that failed: %s", locked.error().message().c_str());
    rest_.end();
}

MoveOut::~MoveOut() {
    stop_ = true;
    channel_->stop();
    if (thread_.joinable())
        thread_.join();
}

} // namespace inox
