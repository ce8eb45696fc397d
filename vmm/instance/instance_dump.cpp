// SPDX-License-Identifier: Apache-2.0
// Dumps of the guest, on request and at a panic.
#include <utility>

#include "vmm/base/log.hpp"
#include "vmm/instance/instance.hpp"

namespace inox {

void Instance::dump(const std::string& path, CoreDump::Done done) {
    auto* const machine = machine_.get();
    if (machine == nullptr || finished_)
        return done(fail(Errc::wrong_state, "there is no guest to dump", "start it first"));
    if (dump_)
        return done(fail(Errc::in_use, "another dump is being written", "wait for its end"));
    if (move_)
        return done(fail(Errc::in_use, "the guest is being moved", "wait for its end"));
    if (save_)
        return done(fail(Errc::in_use, "a snapshot is being written", "wait for its end"));
    start_dump(path, CoreDump::File::made, std::move(done));
}

void Instance::start_dump(const std::string& path, CoreDump::File how, CoreDump::Done done) {
    const auto told = std::make_shared<CoreDump::Done>(std::move(done)); // by the dump, or here
    auto started = CoreDump::start(loop_, *machine_, path, how, [this, path, told](Result<std::uint64_t> bytes) {
        dump_.reset();
        on_dumped(path, bytes);
        (*told)(std::move(bytes));
        if (end_after_dump_)
            on_end(*std::exchange(end_after_dump_, std::nullopt));
    });
    if (started) {
        dump_ = std::move(*started);
        return;
    }
    on_dumped(path, std::unexpected<Error>{started.error()});
    (*told)(std::unexpected<Error>{std::move(started).error()});
}

void Instance::on_dumped(const std::string& path, const Result<std::uint64_t>& bytes) {
    if (bytes)
        return events_.publish("dumped", {{"path", path}, {"bytes", *bytes}});
    events_.publish("dump-failed", {{"path", path}, {"what", bytes.error().message()}});
}

/// At once: the CPU that panics is in its panic still.
void Instance::dump_panic() {
    if (file_.run.dump_on_panic.empty() || panic_dumped_ || dump_ || !machine_)
        return;
    panic_dumped_ = true;
    start_dump(file_.run.dump_on_panic, CoreDump::File::replaced, [this](const Result<std::uint64_t>& bytes) {
        panic_dump_complete_ = bytes.has_value();
        if (!bytes)
            log::write(log::Level::error, "%s", bytes.error().message().c_str());
    });
}

/// A guest that panics and reboots may have ended before its dump began, or while it is written.
bool Instance::dumps_first(const GuestEnd& end) {
    if (end.error && end.error->code == Errc::guest_panic)
        dump_panic();
    return dump_ != nullptr;
}

} // namespace inox
