// SPDX-License-Identifier: Apache-2.0
// Snapshots of the instance's guest, on request.
#include <utility>

#include "vmm/instance/instance.hpp"

namespace inox {

void Instance::save_snapshot(const SnapshotFiles& files, SnapshotKind kind, SnapshotSave::Existing existing,
                             SnapshotSave::Done done) {
    auto* const machine = machine_.get();
    if (machine == nullptr || finished_ || machine->state() == Machine::State::stopped)
        return done(fail(Errc::wrong_state, "there is no guest to save", "start it first"));
    if (move_)
        return done(fail(Errc::in_use, "the guest is being moved", "wait for its end"));
    if (save_ || dump_)
        return done(fail(Errc::in_use, save_ ? "another snapshot is being written" : "a dump is being written",
                         "wait for its end"));
    if (machine->changing())
        return done(fail(Errc::in_use, "a device or a disk's image is being opened", "wait for its end"));
    const bool diff = kind == SnapshotKind::diff;
    if (diff && !base_ && existing == SnapshotSave::Existing::refused)
        return done(fail(Errc::wrong_state, "there is no snapshot of this guest that a Diff could be based on",
                         "save all of it first, without --diff"));
    SnapshotSave::Plan plan{.files = files, .existing = existing, .config = file_.config, .mmds = file_.mmds};
    if (diff)
        plan.pages = base_ && machine->memory().dirty().tracked() ? snapshot::Pages::written : snapshot::Pages::touched;
    plan.base = base_.value_or(snapshot::MemoryId{});
    make_paths_absolute(plan.config, folder_);
    plan.progress = [this](std::uint64_t looked_at, std::uint64_t total) {
        events_.publish("snapshot-progress", {{"bytes", looked_at}, {"of", total}});
    };
    const auto told = std::make_shared<SnapshotSave::Done>(std::move(done)); // by the save, or here
    auto started = SnapshotSave::start(loop_, *machine, std::move(plan),
                                       [this, files, told](Result<SnapshotSave::Written> written) {
                                           const auto over = std::exchange(save_, nullptr); // dies behind what is told
                                           on_saved(files, written);
                                           (*told)(std::move(written));
                                           if (end_after_dump_)
                                               on_end(*std::exchange(end_after_dump_, std::nullopt));
                                       });
    if (started) {
        save_ = std::move(*started);
        return;
    }
    on_saved(files, std::unexpected<Error>{started.error()});
    (*told)(std::unexpected<Error>{std::move(started).error()});
}

Result<Machine*> Instance::changeable_machine() const {
    if (move_)
        return fail(Errc::in_use, "the guest is being moved", "wait for its end");
    if (save_)
        return fail(Errc::in_use, "a snapshot is being written", "wait for its end");
    return running_machine();
}

Result<void> Instance::cancel_snapshot() {
    if (!save_)
        return fail(Errc::wrong_state, "no snapshot is being written");
    save_->cancel();
    return {};
}

void Instance::on_saved(const SnapshotFiles& files, const Result<SnapshotSave::Written>& written) {
    if (written) {
        base_ = written->id;
        return events_.publish("snapshot-saved", {{"state", files.state},
                                                  {"memory", files.memory},
                                                  {"bytes", written->memory},
                                                  {"stored", written->stored}});
    }
    events_.publish("snapshot-failed", {{"state", files.state},
                                        {"code", std::string{error_name(written.error().code)}},
                                        {"what", written.error().message()}});
}

void Instance::use_snapshot(Restored from, Machine::Begin begin) {
    snapshot::MemoryContents contents;
    snapshot::MemoryId id{};
    if (from.parts && from.parts->restore("memory", [&](inox::State& state) { memory_state(state, contents, id); }))
        base_ = id;
    restored_ = std::move(from);
    begin_ = begin;
}

void Instance::end_soon() {
    constexpr std::chrono::milliseconds for_answers{50};
    give_up_timer_ = loop_.after(for_answers, [this] { leave("the guest was ended by a request"); });
}

void Instance::give_up(Error why) {
    constexpr std::chrono::milliseconds for_answers{50};
    give_up_timer_ = loop_.after(for_answers, [this, why = std::move(why)]() mutable {
        owner_.on_end({GuestEnd::How::failed, 0, std::move(why)});
    });
}

} // namespace inox
