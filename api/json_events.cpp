// SPDX-License-Identifier: Apache-2.0
#include "api/json_events.hpp"

#include <chrono>
#include <ctime>

#include "api/routes_reply.hpp"

namespace inox::api {
namespace {

std::string time_text(std::chrono::system_clock::time_point time) {
    const auto since = std::chrono::duration_cast<std::chrono::microseconds>(time.time_since_epoch()).count();
    const std::time_t seconds = since / 1'000'000;
    tm parts{};
    ::gmtime_r(&seconds, &parts);
    return format("%04d-%02d-%02dT%02d:%02d:%02d.%06ldZ", parts.tm_year + 1900, parts.tm_mon + 1, parts.tm_mday,
                  parts.tm_hour, parts.tm_min, parts.tm_sec, static_cast<long>(since % 1'000'000));
}

std::string event_line(const Event& event) {
    Json out{{"sequence", event.sequence}, {"time", time_text(event.time)}, {"event", event.kind}};
    for (const auto& [name, value] : event.details)
        std::visit([&member = out[name]](const auto& one) { member = one; }, value);
    return out.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
}

} // namespace

void stream_events(EventLog& events, const std::shared_ptr<Exchange>& exchange, std::uint64_t since) {
    auto stream = exchange->stream("application/x-ndjson");
    if (!stream)
        return exchange->answer(refusal(
            make_error(Errc::no_resource,
                       "there are " + std::to_string(most_streams) + " readers of events already: that is the limit",
                       "end one of them, and try again"),
            {}, 503));
    for (const auto& event : events.recent())
        if (event.sequence > since)
            stream->write(event_line(event));
    events.watch(
        [stream](const Event* event) { return stream->write(event != nullptr ? event_line(*event) : std::string{}); });
}

} // namespace inox::api
