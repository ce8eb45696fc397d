// SPDX-License-Identifier: Apache-2.0
#include "vmm/instance/verdict/result.hpp"

#include <nlohmann/json.hpp>

#include <cmath>

#include "vmm/base/replace_output.hpp"

namespace inox {
namespace {

using Json = nlohmann::ordered_json;

Json seconds(const std::optional<std::chrono::duration<double>>& time) {
    return time ? Json(std::round(time->count() * 1e6) / 1e6) : Json(nullptr);
}

} // namespace

std::string result_json(const RunResult& result) {
    Json error = nullptr;
    if (result.error)
        error = {{"code", error_name(result.error->code)},
                 {"what", result.error->message()},
                 {"hint", result.error->hint},
                 {"where", result.error->where}};
    Json findings = Json::array();
    for (const auto& one : result.findings)
        findings.push_back({{"line", one.line}, {"kind", one.kind}, {"text", one.text}});
    Json files = Json::object();
    for (const auto& [name, path] : result.files)
        files[name] = path;
    const Json out{{"inox_version", INOX_VERSION},
                   {"how", result.how},
                   {"exit_code", result.exit_code},
                   {"guest_code", result.guest_code ? Json(*result.guest_code) : Json(nullptr)},
                   {"error", std::move(error)},
                   {"seconds", seconds(result.took)},
                   {"first_instruction_seconds", seconds(result.first_instruction)},
                   {"user_space_seconds", seconds(result.user_space)},
                   {"finding_count", result.finding_count},
                   {"findings", std::move(findings)},
                   {"vcpus", result.vcpus},
                   {"files", std::move(files)}};
    return out.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
}

Result<void> write_result(const std::string& path, const RunResult& result) {
    return replace_output(path, result_json(result));
}

} // namespace inox
