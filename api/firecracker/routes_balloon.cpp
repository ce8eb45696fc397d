// SPDX-License-Identifier: Apache-2.0
#include "api/firecracker/json_config.hpp"
#include "api/routes_paths.hpp"
#include "api/routes_reply.hpp"

namespace inox::api {

namespace {

constexpr const char* config_error = "Balloon config error: ";
constexpr const char* update_error = "Balloon update error: ";

Json report_json(const Instance::BalloonReport& report) {
    Json out{{"target_pages", report.target / page_size},
             {"actual_pages", report.actual / page_size},
             {"target_mib", report.target / MiB},
             {"actual_mib", report.actual / MiB}};
    const auto& statistics = report.statistics;
    for (std::size_t i = 0; i < statistics.values.size(); ++i)
        if (statistics.values[i])
            out[statistics.names[i]] = *statistics.values[i];
    return out;
}

Response refused(const Error& error) { return refusal(firecracker::in_words(error), config_error); }

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
    return answering([](Services& services) {
        const auto report = services.instance.balloon_report();
        return report ? ok(report_json(*report)) : refused(report.error());
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
    return answering([](Services& services) {
        const auto hinting = services.instance.balloon_hinting();
        if (!hinting)
            return refused(hinting.error());
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
    return answering([acknowledge = given.is_null() || given.get<bool>()](Services& services) {
        return outcome(services.instance.start_balloon_hinting(acknowledge), update_error);
    });
}

Prepared stop_balloon_hinting(Call& /*call*/) {
    return answering(
        [](Services& services) { return outcome(services.instance.stop_balloon_hinting(), update_error); });
}

} // namespace inox::api
