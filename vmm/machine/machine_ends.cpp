// SPDX-License-Identifier: Apache-2.0
// Every way in which a guest ends by itself, and how each end is judged.
#include <algorithm>

#include "vmm/host/host_speed.hpp"
#include "vmm/machine/machine.hpp"

namespace inox {
namespace {

// A panicking kernel notifies inox in the middle of its report, and the rest of the text is worth waiting for.
constexpr std::chrono::milliseconds silence{500};
constexpr std::chrono::seconds most_last_words{10};

// At 50 ms for each question, a vCPU leaves any instruction that it executes long before it was asked this often.
constexpr unsigned standing_for_ever = 10;

/// A guest that panicked did not end well, however it ended.
GuestEnd panic_end(const std::string& reason) {
    return {GuestEnd::How::failed, 0,
            make_error(Errc::guest_panic, "the guest's kernel panicked" + (reason.empty() ? "" : ": " + reason),
                       "its console says why; --serial-log FILE keeps a copy of it")};
}

/// Ends to which a panicked kernel comes by itself.
bool may_follow_panic(const GuestEnd& end) {
    switch (end.how) {
    case GuestEnd::How::reset:
    case GuestEnd::How::powered_off:
        return true;
    case GuestEnd::How::failed:
        return end.error->code == Errc::guest_triple_fault || end.error->code == Errc::guest_halted;
    case GuestEnd::How::stopped:
        return end.error && end.error->code == Errc::timed_out;
    case GuestEnd::How::exited:
        break;
    }
    return false;
}

/// Measures the speed of this KVM, so it must not run on a vCPU's thread.
const char* emulation_hint() {
    return kvm_interprets() ? "this KVM interprets guest code (see `inox host`): use a host with VT-x or SVM"
                            : "the guest runs code, or uses an address, that is neither memory nor a device's "
                              "register: see its console";
}

} // namespace

void Machine::power_off() noexcept { report_end({GuestEnd::How::powered_off, 0, {}}); }
void Machine::reset() noexcept { report_end({GuestEnd::How::reset, 0, {}}); }
void Machine::exit(std::uint8_t code) noexcept { report_end({GuestEnd::How::exited, code, {}}); }
void Machine::root_failed(std::string_view text) noexcept {
    report_end({GuestEnd::How::failed, 0,
                make_error(Errc::guest_root, "the guest cannot use its root: " + std::string{text},
                           "see its console, and docs/root.md")});
}
void Machine::user_space_up() noexcept {
    timeline_.mark(Timeline::Step::user_space_up);
    if (!user_space_told_.exchange(true))
        loop_.post([&events = owner_.events] { events.on_user_space_up(); });
}

void Machine::watch_consoles() {
    panic_text_ = std::make_unique<PanicText>(
        PanicText::Hooks{[this](const std::string& reason) {
                             loop_.post([&events = owner_.events, reason] {
                                 events.on_panic({GuestPanic::Source::console, false, reason});
                             });
                         },
                         [this] {
                             if (end_on_panic_)
                                 report_end(panic_end(panic_text_->panicked().value_or("")));
                         }});
}

void Machine::serial_output(std::span<const std::byte> bytes) {
    if (panic_text_)
        panic_text_->feed(PanicText::Console::serial, bytes);
    owner_.serial.serial_output(bytes);
}

std::size_t Machine::console_output(std::span<const std::byte> bytes) {
    const std::size_t taken = owner_.console.console_output(bytes);
    if (panic_text_)
        panic_text_->feed(PanicText::Console::virtio, bytes.first(taken));
    return taken;
}

void Machine::panicked(bool crash_kernel) noexcept {
    if ((crash_kernel ? crash_kernel_ : panicked_).exchange(true))
        return; // a guest may report it any number of times
    loop_.post([&events = owner_.events, crash_kernel] {
        events.on_panic({GuestPanic::Source::pvpanic, crash_kernel, {}});
    });
    if (end_on_panic_ && !crash_kernel)
        loop_.post([this, alive = std::weak_ptr{alive_}] {
            if (alive.lock())
                await_last_words(exits(), most_last_words);
        });
}

void Machine::await_last_words(std::uint64_t exits_before, std::chrono::milliseconds patience) {
    last_words_ = loop_.after(silence, [this, exits_before, patience] {
        const auto exits_now = exits();
        if (held_ != 0)
            return await_last_words(exits_before, patience);
        if (exits_now == exits_before || patience <= silence)
            return report_end(panic_end(panic_text_ ? panic_text_->panicked().value_or("") : ""));
        await_last_words(exits_now, patience - silence);
    });
}

GuestEnd Machine::judged(GuestEnd end) const {
    if (!may_follow_panic(end))
        return end;
    const auto reason = panic_text_ ? panic_text_->panicked() : std::nullopt;
    return reason || panicked_ || crash_kernel_ ? panic_end(reason.value_or("")) : end;
}

void Machine::report_end(GuestEnd end) noexcept {
    if (ended_.exchange(true))
        return;
    // The guest must not go on after a power-off: the vCPU that reports it parks at the gate, the others are kicked.
    gate_.set(RunGate::State::stopping);
    loop_.post([&events = owner_.events, end = judged(std::move(end))]() mutable {
        if (end.error && end.error->code == Errc::guest_emulation_failure && end.error->hint.empty())
            end.error->hint = emulation_hint();
        events.on_end(std::move(end));
    });
}

// A guest whose vCPUs are all halted with interrupts off can never go on, and KVM does not report that. A guest without
// exits is asked at growing intervals (1, 16, then 60 seconds), so an idle one is left alone. One with exits is asked
// without a kick, for instructions that KVM tries for ever, with an exit each time or with none (no_progress.hpp).
void Machine::schedule_stuck_check(std::chrono::milliseconds delay) {
    stuck_timer_ = loop_.after(delay, [this, delay] {
        if (state_ != State::running || held_ != 0)
            return schedule_stuck_check(delay);
        ask_stuck(delay, exits() == exits_at_last_check_);
    });
}

void Machine::ask_stuck(std::chrono::milliseconds waited, bool silent) {
    for (auto& vcpu : vcpus_)
        vcpu->ask_stuck(silent);
    stuck_timer_ = loop_.after(std::chrono::milliseconds{50}, [this, waited, silent] { check_stuck(waited, silent); });
}

void Machine::check_stuck(std::chrono::milliseconds waited, bool silent) {
    exits_at_last_check_ = exits(); // asking made each vCPU exit once
    if (silent && std::ranges::all_of(vcpus_, [](const auto& vcpu) { return vcpu->stuck() == 1; }))
        return report_end(
            {GuestEnd::How::failed, 0,
             make_error(Errc::guest_halted, "the guest halted for good: every vCPU is halted with interrupts off",
                        "let the guest power off, reboot or write its exit code to port 0xf4 instead")});
    const auto standing = std::ranges::max_element(vcpus_, {}, [](const auto& vcpu) { return vcpu->standing(); });
    if ((*standing)->standing() >= standing_for_ever)
        return report_end({GuestEnd::How::failed, 0, (*standing)->standing_error()});
    if ((*standing)->standing() != 0)
        return ask_stuck(waited, silent);
    schedule_stuck_check(silent ? std::min<std::chrono::milliseconds>(waited * 16, std::chrono::minutes{1}) : waited);
}

} // namespace inox
