// SPDX-License-Identifier: Apache-2.0
#include "vmm/instance/verdict/hang_watch.hpp"

#include <algorithm>

#include "vmm/boot/cmdline.hpp"

namespace inox {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::seconds between_looks{2};
// For what a kernel says to an NMI
constexpr std::chrono::milliseconds first_words{1000};
constexpr std::chrono::milliseconds last_words{500};
constexpr std::chrono::seconds most_words{3};

} // namespace

bool HangWatch::heard() {
    const auto bytes = instance_.console_bytes();
    if (bytes == console_bytes_ && instance_.state() == Instance::State::running)
        return false;
    console_bytes_ = bytes;
    return true;
}

void HangWatch::tell(Error error) {
    if (auto hung = std::exchange(hung_, nullptr))
        hung(std::move(error));
}

std::chrono::nanoseconds HangWatch::late(Clock::time_point& due, std::chrono::nanoseconds next) {
    const auto now = Clock::now();
    const auto after = std::max(now - due, std::chrono::nanoseconds{0});
    due = now + next;
    return after;
}

void HangWatch::expect_words(std::chrono::milliseconds within) {
    heard_at_ = words_due_ = Clock::now();
    listen(within);
}

void HangWatch::listen(std::chrono::milliseconds within) {
    const std::chrono::nanoseconds next = std::chrono::nanoseconds{within} / 8;
    heard_at_ += late(words_due_, next);
    const auto now = Clock::now();
    if (heard())
        heard_at_ = now;
    if (now - heard_at_ >= within)
        return tell(
            make_error(Errc::guest_silent,
                       format("the guest's console said nothing for %lld ms", static_cast<long long>(within.count())),
                       "see above where its CPUs are; --symbols System.map names the places"));
    silence_ = loop_.after(next, [this, within] { listen(within); });
}

void HangWatch::expect_interrupts() {
    const auto now = Clock::now();
    if (interrupts_due_ == Clock::time_point{})
        interrupts_due_ = now;
    const auto stopped = late(interrupts_due_, between_looks);
    for (auto& entry : deaf_since_)
        entry.second += stopped;
    const auto deaf = instance_.deaf_vcpus();
    std::erase_if(deaf_since_, [&](const auto& entry) { return std::ranges::find(deaf, entry.first) == deaf.end(); });
    for (const auto id : deaf) {
        const auto since = deaf_since_.try_emplace(id, now).first->second;
        if (now - since < lockup_after)
            continue;
        locked_up_ = id;
        return tell(make_error(Errc::guest_hard_lockup,
                               format("vCPU %u took no interrupt for %lld s (hard lockup)", id,
                                      static_cast<long long>(lockup_after.count())),
                               "see above where it is; --symbols System.map names the places"));
    }
    lockups_ = loop_.after(between_looks, [this] { expect_interrupts(); });
}

bool HangWatch::ask_kernel(std::function<void()> done) {
    silence_.reset();
    lockups_.reset();
    if (!boot::find_cmdline_word(instance_.file().config.boot.cmdline, "unknown_nmi_panic") ||
        !instance_.send_nmi(locked_up_.value_or(0)))
        return false;
    done_ = std::move(done);
    const auto now = Clock::now();
    heard_at_ = now + (first_words - last_words);
    static_cast<void>(heard());
    await_words(now + most_words);
    return true;
}

void HangWatch::await_words(Clock::time_point until) {
    const auto now = Clock::now();
    if (heard())
        heard_at_ = std::max(heard_at_, now);
    if (now >= until || now >= heard_at_ + last_words)
        return done_();
    silence_ = loop_.after(last_words / 10, [this, until] { await_words(until); });
}

} // namespace inox
