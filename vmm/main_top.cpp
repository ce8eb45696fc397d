// SPDX-License-Identifier: Apache-2.0
// `inox ctl top`: the guest's rates, again and again.
#include <atomic>
#include <cerrno>
#include <csignal>
#include <fstream>
#include <poll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "api/client.hpp"
#include "api/json_tables.hpp"
#include "api/json_top.hpp"
#include "vmm/main_commands.hpp"

namespace inox::cli {
namespace {

using api::TopSample;
using Clock = std::chrono::steady_clock;

std::atomic<int> ended_by{0};
static_assert(std::atomic<int>::is_always_lock_free);

/// While it lives, a terminal shows frames in place of its lines, and signals that end a program only end the waiting.
/// Afterwards everything is as before.
class Screen {
public:
    Screen() : shown_{::isatty(STDOUT_FILENO) == 1} {
        if (!shown_)
            return;
        struct sigaction action {};
        action.sa_handler = [](int signal) { ended_by = signal; };
        for (std::size_t i = 0; i < std::size(signals); ++i)
            ::sigaction(signals[i], &action, &before_[i]);
        print("\x1b[?1049h\x1b[?25l"); // the other screen, no cursor
    }
    ~Screen() {
        if (!shown_)
            return;
        print("\x1b[?25h\x1b[?1049l");
        for (std::size_t i = 0; i < std::size(signals); ++i)
            ::sigaction(signals[i], &before_[i], nullptr);
    }
    Screen(const Screen&) = delete;
    Screen& operator=(const Screen&) = delete;

    [[nodiscard]] api::TopSize size() const {
        winsize window{};
        if (!shown_ || ::ioctl(STDOUT_FILENO, TIOCGWINSZ, &window) != 0 || window.ws_row < 2 || window.ws_col == 0)
            return {};
        return {window.ws_row - 1U, window.ws_col};
    }
    /// False when nobody sees it.
    bool show(const std::string& frame) {
        if (!shown_)
            return print(std::exchange(first_, false) ? frame : "\n" + frame);
        std::string out = "\x1b[H";
        for (const char c : frame)
            out += c == '\n' ? std::string{"\x1b[K\n"} : std::string(1, c);
        return print(out + "\x1b[J");
    }

private:
    static constexpr int signals[]{SIGINT, SIGTERM, SIGHUP, SIGQUIT};
    bool shown_;
    bool first_{true};
    struct sigaction before_[std::size(signals)]{};
};

/// Of the process, where this one may look.
std::optional<std::uint64_t> resident_bytes(long pid) {
    std::ifstream file{"/proc/" + std::to_string(pid) + "/statm"};
    std::uint64_t whole = 0;
    std::uint64_t resident = 0;
    if (!(file >> whole >> resident))
        return std::nullopt;
    return resident * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
}

Result<std::string> ask(const api::Client& client, const char* target) {
    auto answer = TRY(client.call("GET", target));
    if (answer.status >= 300)
        return std::unexpected{api::refusal_error(answer.status, answer.body)};
    return std::move(answer.body);
}

Result<TopSample> look(const api::Client& client) {
    const auto exits = TRY(ask(client, "/inox/exits"));
    const auto now = Clock::now();
    const auto metrics = TRY(ask(client, "/inox/metrics"));
    const auto status = TRY(ask(client, "/inox/status"));
    auto sample = TRY(api::top_sample(status, exits, metrics, now));
    sample.resident = resident_bytes(sample.pid);
    return sample;
}

/// False when a signal ended it.
bool wait_until(Clock::time_point then) {
    for (auto now = Clock::now(); now < then && ended_by == 0; now = Clock::now())
        (void)::poll(nullptr, 0, static_cast<int>(std::chrono::ceil<std::chrono::milliseconds>(then - now).count()));
    return ended_by == 0;
}

} // namespace

Result<int> top(const std::string& socket, std::chrono::milliseconds interval, bool once) {
    const api::Client client{socket};
    auto before = TRY(look(client));
    Screen screen;
    for (auto next = before.at + interval; wait_until(next); next += interval) {
        auto now = look(client);
        if (!now) // the guest is over, or the API stopped
            return now.error().code == Errc::not_found ? Result<int>{0} : std::unexpected{std::move(now).error()};
        if (!screen.show(api::top_frame(before, *now, screen.size())))
            return report_unheard();
        if (once)
            break;
        before = std::move(*now);
        next = std::max(next, Clock::now()); // a slow answer brings no rush of frames
    }
    return 0;
}

} // namespace inox::cli
