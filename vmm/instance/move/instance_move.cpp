// SPDX-License-Identifier: Apache-2.0
// The instance's guest goes to another process.
#include <algorithm>
#include <sys/socket.h>
#include <utility>

#include "vmm/instance/instance.hpp"

namespace inox {
namespace {

std::uint64_t milliseconds(MoveOut::Clock::duration time) {
    return static_cast<std::uint64_t>(std::chrono::ceil<std::chrono::milliseconds>(time).count());
}

} // namespace

void Instance::move(const move::Stream& stream, std::chrono::milliseconds downtime, MoveOut::Done done) {
    auto* const machine = machine_.get();
    if (machine == nullptr || finished_ || machine->state() == Machine::State::stopped)
        return done(fail(Errc::wrong_state, "there is no guest to move", "start it first"));
    if (move_)
        return done(fail(Errc::in_use, "the guest is being moved already", "wait for its end"));
    if (save_ || dump_ || machine->changing())
        return done(fail(Errc::in_use, "a snapshot or a dump is being written, or a device is being opened",
                         "wait for its end"));
    MoveOut::Plan plan{.path = stream.path, .downtime = downtime, .config = file_.config, .mmds = file_.mmds};
    if (stream.path.empty()) {
        // Others are inox's own
        if (std::ranges::find(file_.run.keep_fds, stream.fd) == file_.run.keep_fds.end())
            return done(fail(Errc::not_allowed, "this descriptor is none for a move",
                             "name it with --keep-fds when inox is started"));
        auto own = move::accept_one(stream);
        if (!own)
            return done(std::unexpected<Error>{std::move(own).error()});
        plan.socket = std::move(*own);
    } else {
        plan.socket = UniqueFd{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
        if (!plan.socket)
            return done(fail_errno(Errc::host_error, "a socket for the move"));
    }
    make_paths_absolute(plan.config, folder_);
    plan.progress = [this](const MoveOut::Progress& now) {
        events_.publish("move-progress", {{"round", std::uint64_t{now.round}}, {"sent", now.sent}, {"left", now.left}});
    };
    const auto told = std::make_shared<MoveOut::Done>(std::move(done)); // by the move, or here
    auto started = MoveOut::start(loop_, *machine, std::move(plan), [this, told](Result<MoveOut::Progress> moved) {
        on_moved(moved);
        (*told)(std::move(moved));
    });
    if (started) {
        move_ = std::move(*started);
        return;
    }
    on_moved(std::unexpected<Error>{started.error()});
    (*told)(std::unexpected<Error>{std::move(started).error()});
}

/// One that was handed over, with nobody knowing where it runs, stays.
void Instance::on_moved(const Result<MoveOut::Progress>& moved) {
    if (moved) {
        events_.publish("moved", {{"sent", moved->sent},
                                  {"rounds", std::uint64_t{moved->round}},
                                  {"downtime_ms", milliseconds(moved->down)}});
        constexpr std::chrono::milliseconds for_answers{50};
        give_up_timer_ = loop_.after(for_answers, [this] { leave("the guest has moved"); });
        return;
    }
    if (!move_ || !move_->handed_over())
        loop_.post([gone = std::shared_ptr{std::move(move_)}] {}); // it is it that calls
    events_.publish("move-failed",
                    {{"code", std::string{error_name(moved.error().code)}}, {"what", moved.error().message()}});
}

Result<void> Instance::cancel_move() {
    if (!move_)
        return fail(Errc::wrong_state, "the guest is not being moved");
    return move_->cancel();
}

/// The operator says that it does not run at the other side.
void Instance::take_back() {
    if (move_ && move_->handed_over()) {
        move_->take_back();
        move_.reset();
    }
}

} // namespace inox
