// SPDX-License-Identifier: Apache-2.0
#include "vmm/base/log.hpp"
#include "vmm/base/log_sink.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <mutex>
#include <span>
#include <unistd.h>
#include <utility>

#include "vmm/base/plain_text.hpp"
#include "vmm/base/shared_output.hpp"

namespace inox::log {
namespace {

std::atomic<Level> current{Level::warning};
std::atomic<int> sink{STDERR_FILENO};
std::atomic<std::uint64_t> dropped_lines{0};

constexpr std::array<const char*, 6> names{"OFF", "ERROR", "WARN", "INFO", "DEBUG", "TRACE"};

struct Shared {
    std::mutex mutex;
    Style style;           // guarded by mutex
    std::string sink_path; // guarded by mutex
    bool failure_told{};   // guarded by mutex
};
/// Never destroyed: a thread may log while the process ends.
Shared& shared() {
    static auto* const only = new Shared;
    return *only;
}

bool belongs(std::string_view file, const std::string& module) {
    if (module.empty())
        return true;
    const auto own = module_of(file);
    return own == module || own.starts_with(module + "::");
}

/// A line of text that keeps room for its newline.
class Line {
public:
    [[gnu::format(printf, 2, 3)]] void add(const char* text, ...) {
        va_list args;
        va_start(args, text);
        add_list(text, args);
        va_end(args);
    }
    [[gnu::format(printf, 2, 0)]] void add_list(const char* text, va_list args) {
        const int length = std::vsnprintf(bytes_.data() + used_, bytes_.size() - used_, text, args);
        if (length > 0)
            used_ = std::min(used_ + static_cast<std::size_t>(length), bytes_.size() - 1);
    }
    /// Lines of Firecracker's format may hold line breaks.
    std::string_view finish() {
        make_plain(std::span{bytes_}.first(used_), "\n\t");
        bytes_[used_] = '\n';
        return {bytes_.data(), used_ + 1};
    }

private:
    std::array<char, 2048> bytes_{};
    std::size_t used_{0};
};

/// A sink of ours does not block; standard error is shared with the shell and might.
ssize_t write_to(int fd, std::string_view line) {
    if (fd != STDERR_FILENO)
        return ::write(fd, line.data(), line.size());
    return shared_error().write(line.data(), line.size());
}

/// Reports, once, that the log file cannot be written.
void tell_failure(int error) {
    std::lock_guard lock{shared().mutex};
    if (std::exchange(shared().failure_told, true))
        return;
    Line line;
    line.add("inox: WARN: log file '%s' cannot be written: %s", shared().sink_path.c_str(), std::strerror(error));
    static_cast<void>(write_to(STDERR_FILENO, line.finish()));
}

} // namespace

const char* level_name(Level level) { return names[static_cast<std::size_t>(level)]; }

std::string_view source_file(std::string_view file) {
    static constexpr std::string_view own{__FILE__};
    static constexpr auto top = own.size() - std::string_view{"vmm/base/log.cpp"}.size();
    return file.starts_with(own.substr(0, top)) ? file.substr(top) : file;
}

std::string module_of(std::string_view file) {
    file = source_file(file);
    file = file.substr(0, file.rfind('.'));
    std::string out;
    for (const char c : file)
        out += c == '/' ? std::string{"::"} : std::string{c};
    return out;
}

void set_level(Level level) { current = level; }
bool enabled(Level level) { return level <= current.load(std::memory_order_relaxed); }
void set_sink(int fd, std::string path) {
    std::lock_guard lock{shared().mutex};
    shared().sink_path = std::move(path);
    shared().failure_told = false;
    sink = fd;
}
std::uint64_t dropped() { return dropped_lines; }
int sink_fd() noexcept { return sink.load(std::memory_order_relaxed); }
void prepare() { static_cast<void>(shared_error()); }

void set_style(Style style) {
    std::lock_guard lock{shared().mutex};
    shared().style = std::move(style);
}

Style style() {
    std::lock_guard lock{shared().mutex};
    return shared().style;
}

void write(Site site, const char* text, ...) {
    if (!enabled(site.level))
        return;
    Line line;
    {
        std::lock_guard lock{shared().mutex};
        const Style& style = shared().style;
        if (!belongs(site.at.file_name(), style.module))
            return;
        if (style.prefix)
            line.add("%s", style.prefix(site, style).c_str());
        else
            line.add("inox: %s: ", level_name(site.level));
    }
    va_list args;
    va_start(args, text);
    line.add_list(text, args);
    va_end(args);
    const auto whole = line.finish();
    const int fd = sink.load(std::memory_order_relaxed);
    const auto written = write_to(fd, whole);
    const int error = written < 0 ? errno : 0;
    if (written != static_cast<ssize_t>(whole.size()))
        dropped_lines.fetch_add(1, std::memory_order_relaxed);
    if (error != 0 && error != EAGAIN && fd != STDERR_FILENO)
        tell_failure(error);
}

bool Throttle::allow() noexcept {
    timespec now{};
    ::clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    std::int64_t second = second_.load(std::memory_order_relaxed);
    if (second != now.tv_sec && second_.compare_exchange_strong(second, now.tv_sec, std::memory_order_relaxed))
        in_second_.store(0, std::memory_order_relaxed);
    if (in_second_.fetch_add(1, std::memory_order_relaxed) < limit_)
        return true;
    suppressed_.fetch_add(1, std::memory_order_relaxed);
    return false;
}

} // namespace inox::log
