// SPDX-License-Identifier: Apache-2.0
// What happens to a guest, for whoever watches: the last events, and a call for each new one.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace inox {

struct Event {
    std::uint64_t sequence{}; ///< 1, 2, ...: a gap tells a reader what it missed
    std::chrono::system_clock::time_point time{};
    std::string kind{}; ///< a stable word: docs/api.md lists them
    using Value = std::variant<std::string, std::uint64_t, bool>;
    using Details = std::vector<std::pair<std::string, Value>>;
    Details details{};
};

/// On the loop's thread.
class EventLog {
public:
    static constexpr std::size_t kept = 256;
    using Details = Event::Details;

    void publish(std::string kind, Details details = {});
    /// `reader` is called with each event from now on until it returns false. Called with null, it only returns
    /// whether it still reads. It must not publish or watch.
    using Reader = std::function<bool(const Event*)>;
    void watch(Reader reader);
    /// Oldest first.
    [[nodiscard]] const std::deque<Event>& recent() const { return recent_; }

private:
    std::deque<Event> recent_{};
    void tell(const Event* event);

    std::vector<Reader> readers_{};
    std::uint64_t next_sequence_{1};
};

} // namespace inox
