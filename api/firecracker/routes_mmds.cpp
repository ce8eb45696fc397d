// SPDX-License-Identifier: Apache-2.0
#include "api/routes_paths.hpp"
#include "api/routes_reply.hpp"

namespace inox::api {

namespace {

Response stored(const Result<void>& result, const std::string& text) {
    if (result)
        return done();
    Error error = result.error();
    if (error.code == Errc::config_syntax || error.code == Errc::config_type)
        return body_refusal(error, {nullptr, text});
    const bool full = error.code == Errc::no_resource;
    error.what = full ? "The MMDS patch request doesn't fit." : "The MMDS data store is not initialized.";
    return full ? refusal(error, "MMDS limit exceeded error: ", 413) : refusal(error, "MMDS error: ");
}

} // namespace

Prepared get_mmds(Call& /*call*/) {
    return answering([](Services& services) {
        return Response{200, services.instance.mmds().text(), "application/json", false};
    });
}

Prepared put_mmds(Call& call) {
    return answering([text = std::move(call.request.body)](Services& services) {
        return stored(services.instance.mmds().put(text), text);
    });
}

Prepared patch_mmds(Call& call) {
    return answering([text = std::move(call.request.body)](Services& services) {
        return stored(services.instance.mmds().patch(text), text);
    });
}

Prepared put_mmds_config(Call& call) {
    auto body = read_section("mmds-config", call.request.body);
    if (body.refusal)
        return *body.refusal;
    const auto& config = *body.file.mmds;
    if (config.interfaces.empty())
        return refusal(make_error(Errc::config_value,
                                  "The list of network interface IDs that allow forwarding MMDS requests is empty.",
                                  "name the interface that answers"),
                       "MMMDS config error: ");
    return answering([config](Services& services) {
        auto response =
            outcome(services.instance.configure([&](ConfigFile& file) { file.mmds = config; }), "MMMDS config error: ");
        response.deprecated = !config.version_2;
        return response;
    });
}

} // namespace inox::api
