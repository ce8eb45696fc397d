// SPDX-License-Identifier: Apache-2.0
#include "api/firecracker/json_config.hpp"
#include "api/routes_paths.hpp"
#include "api/routes_reply.hpp"
#include "vmm/instance/balloon.hpp"

namespace inox::api {

namespace {

constexpr const char* config_error = "Balloon config error: ";
constexpr const char* update_error = "Balloon update error: ";

Json statistics_json(const devices::virtio::Balloon& balloon, const devices::virtio::BalloonStatistics& statistics) {
    Json out{{"target_pages", balloon.target() / page_size},
             {"actual_pages", balloon.actual() / page_size},
             {"target_mib", balloon.target() / MiB},
             {"actual_mib", balloon.actual() / MiB}};
    for (std::size_t i = 0; i < statistics.values.size(); ++i)
        if (statistics.values[i])
            out[statistics.names[i]] = *statistics.values[i];
    return out;
}

/// Runs `work(balloon)`, which returns a Response.
template <class F> Action with_balloon(const char* prefix, F work) {
    return answering([prefix, work = std::move(work)](Services& services) {
        const auto balloon = services.instance.balloon();
        return balloon ? work(**balloon) : refusal(firecracker::in_words(balloon.error()), prefix);
    });
}

} // namespace

Prepared get_balloon(Call& /*call*/) {
    return answering([](Services& services) {
        const auto* balloon = device_of<devices::virtio::BalloonOptions>(services.instance.file().config);
        if (balloon == nullptr)
            return refusal({Errc::not_found, "Device not found", "PUT /balloon before the start"}, config_error);
        return ok(balloon_json(*balloon));
    });
}

Prepared put_balloon(Call& call) {
    auto body = read_section("balloon", call.request.body);
    if (body.refusal)
        return *body.refusal;
    return answering([balloon = *device_of<devices::virtio::BalloonOptions>(body.file.config)](Services& services) {
        return outcome(services.instance.configure([&](ConfigFile& file) { put_device(file.config, balloon); }),
                       config_error);
    });
}

Prepared patch_balloon(Call& call) {
    const auto body = read_object(call.request.body, {{"amount_mib", FieldSpec::Type::number}});
    if (body.refusal)
        return *body.refusal;
    return answering([mib = body.root.at("amount_mib").get<std::uint64_t>()](Services& services) {
        return outcome(services.instance.change_balloon(mib * MiB), update_error);
    });
}

Prepared get_balloon_statistics(Call& /*call*/) {
    return with_balloon(config_error, [](const devices::virtio::Balloon& balloon) {
        const auto statistics = balloon.statistics();
        return statistics ? ok(statistics_json(balloon, *statistics)) : refusal(statistics.error(), config_error);
    });
}

Prepared patch_balloon_statistics(Call& call) {
    const auto body =
        read_object(call.request.body, {{"stats_polling_interval_s", FieldSpec::Type::number, true, UINT16_MAX}});
    if (body.refusal)
        return *body.refusal;
    const auto seconds = body.root.at("stats_polling_interval_s").get<std::uint32_t>();
    return answering([seconds](Services& services) {
        return outcome(services.instance.change_balloon_statistics(std::chrono::seconds{seconds}), update_error);
    });
}

Prepared get_balloon_hinting(Call& /*call*/) {
    return with_balloon(config_error, [](const devices::virtio::Balloon& balloon) {
        const auto hinting = balloon.hinting();
        if (!hinting)
            return refusal(hinting.error(), config_error);
        return ok({{"host_cmd", hinting->host_command},
                   {"guest_cmd", hinting->guest_command ? Json(*hinting->guest_command) : Json(nullptr)}});
    });
}

Prepared start_balloon_hinting(Call& call) {
    ObjectBody body;
    if (!call.request.body.empty())
        body = read_object(call.request.body, {{"acknowledge_on_stop", FieldSpec::Type::boolean, false}});
    if (body.refusal)
        return *body.refusal;
    const auto given =
        body.root.is_object() ? body.root.value("acknowledge_on_stop", nlohmann::json{}) : nlohmann::json{};
    return with_balloon(update_error, [acknowledge = given.is_null() || given.get<bool>()](auto& balloon) {
        return outcome(balloon.start_hinting(acknowledge), update_error);
    });
}

Prepared stop_balloon_hinting(Call& /*call*/) {
    return with_balloon(update_error, [](auto& balloon) { return outcome(balloon.stop_hinting(), update_error); });
}

} // namespace inox::api
