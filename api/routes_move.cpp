// SPDX-License-Identifier: Apache-2.0
// The guest goes to another process; or ends here.
#include <chrono>

#include "api/query.hpp"
#include "api/routes_paths.hpp"
#include "api/routes_reply.hpp"
#include "vmm/instance/move/stream.hpp"

namespace inox::api {

Prepared put_move(Call& call) {
    if (const Query query{call.request.query, {}}; query.refusal())
        return *query.refusal();
    constexpr std::uint64_t usual = 300;
    constexpr std::uint64_t most = 60'000;
    const auto body = read_object(
        call.request.body, {{"stream", FieldSpec::Type::text}, {"downtime_ms", FieldSpec::Type::number, false, most}});
    if (body.refusal)
        return *body.refusal;
    auto stream = move::parse_stream(body.root.at("stream").get<std::string>());
    if (!stream)
        return refusal(stream.error());
    const std::chrono::milliseconds downtime{body.root.value("downtime_ms", usual)};
    return Action{[stream = *stream, downtime](Services& services, const std::shared_ptr<Exchange>& exchange) {
        services.instance.move(stream, downtime, [exchange](const Result<MoveOut::Progress>& moved) {
            exchange->answer(
                moved ? ok({{"sent", moved->sent},
                            {"rounds", moved->round},
                            {"downtime_ms", std::chrono::ceil<std::chrono::milliseconds>(moved->down).count()}})
                      : refusal(moved.error()));
        });
    }};
}

Prepared delete_move(Call& call) {
    if (const Query query{call.request.query, {}}; query.refusal())
        return *query.refusal();
    return answering([](Services& services) { return outcome(services.instance.cancel_move()); });
}

Prepared put_end(Call& call) {
    if (const Query query{call.request.query, {}}; query.refusal())
        return *query.refusal();
    const auto body = read_object(call.request.body, {});
    if (body.refusal)
        return *body.refusal;
    return answering([](Services& services) {
        services.instance.end_soon();
        return outcome({});
    });
}

} // namespace inox::api
