// SPDX-License-Identifier: Apache-2.0
#include "vmm/base/descriptors.hpp"

#include <algorithm>
#include <atomic>
#include <charconv>
#include <fcntl.h>
#include <set>
#include <string>
#include <sys/resource.h>
#include <unistd.h>

#include "vmm/base/os.hpp"

namespace inox::descriptors {
namespace {

constexpr unsigned first_inherited = STDERR_FILENO + 1;
/// What a machine of ordinary size opens: disks, taps, interrupts, rings, files.
constexpr std::size_t machine_itself = 128;

std::atomic<std::size_t> reserved{0};

/// Filled on the main thread, before there are others.
std::set<unsigned>& named() {
    static std::set<unsigned> numbers;
    return numbers;
}

} // namespace

void raise_limit() {
    rlimit limit{};
    if (::getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= limit.rlim_max)
        return;
    limit.rlim_cur = limit.rlim_max;
    ::setrlimit(RLIMIT_NOFILE, &limit);
}

void keep_named(std::string_view text) {
    std::string plain;
    if (text.find('\\') != text.npos) { // JSON may write a slash as \/
        plain = text;
        std::erase(plain, '\\');
        text = plain;
    }
    for (const auto folder : folders)
        for (auto at = text.find(folder); at != text.npos; at = text.find(folder, at + 1)) {
            const auto digits = text.substr(at + folder.size());
            unsigned number = 0;
            if (std::from_chars(digits.data(), digits.data() + digits.size(), number).ec == std::errc{})
                named().insert(number);
        }
}

void keep(int fd) {
    if (fd >= static_cast<int>(first_inherited))
        named().insert(static_cast<unsigned>(fd));
}

std::vector<int> parse_list(std::string_view text) {
    std::vector<int> out;
    const char* at = text.data();
    const char* const last = at + text.size();
    for (;; ++at) {
        int number = 0;
        const auto [end, error] = std::from_chars(at, last, number);
        if (error != std::errc{} || number < static_cast<int>(first_inherited) || (end != last && *end != ','))
            return {};
        out.push_back(number);
        if (end == last)
            return out;
        at = end;
    }
}

bool is_open(int fd) { return ::fcntl(fd, F_GETFD) >= 0; } // NOLINT(*-vararg)

void close_inherited() {
    unsigned next = first_inherited;
    for (const unsigned number : named()) {
        if (number > next)
            ::close_range(next, number - 1, 0);
        next = std::max(next, number + 1);
    }
    ::close_range(next, ~0U, 0);
}

Reserve::Reserve(std::size_t count) : count_{count} { reserved += count_; }
Reserve::~Reserve() { reserved -= count_; }

std::size_t spendable() {
    rlimit limit{};
    if (::getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return 0;
    const std::size_t all = limit.rlim_cur;
    const std::size_t kept = machine_itself + std::min(reserved.load(), all / 2);
    return all > kept ? all - kept : 0;
}

bool left(std::size_t count) {
    std::vector<UniqueFd> probes;
    for (; count > 0; --count)
        if (probes.emplace_back(::fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 0)); !probes.back()) // NOLINT(*-vararg)
            return false;
    return true;
}

} // namespace inox::descriptors
