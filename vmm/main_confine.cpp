// SPDX-License-Identifier: Apache-2.0
// What a configuration leaves to the process.
#include <algorithm>

#include "vmm/confine/confine.hpp"
#include "vmm/confine/sanitized.hpp"
#include "vmm/instance/raw_terminal.hpp"
#include "vmm/main_commands.hpp"
#include "vmm/snapshot/memory_file.hpp"

namespace inox::cli {
namespace {

confine::Refusal refusal_of(Seccomp asked) {
    return asked == Seccomp::log || confine::sanitized ? confine::Refusal::log : confine::Refusal::end;
}

/// Something serves the guest that the loop starts, ends or opens again: a process for a folder or the user's network,
/// a tap that was gone.
bool has_servers(const Config& config) {
    const auto folders = devices_of<devices::virtio::FsOptions>(config);
    const auto nets = devices_of<devices::virtio::NetOptions>(config);
    return config.root || std::ranges::any_of(folders, [](const auto* one) { return !one->path.empty(); }) ||
           std::ranges::any_of(nets, [](const auto* one) { return one->user || !one->tap.empty(); });
}

} // namespace

unsigned features_of(const ConfigFile& file) {
    confine::Features features = 0;
    const bool changes = !file.api.socket.empty() || !file.api.id.empty();
    if (changes || file.run.on_reboot == OnReboot::restart || has_servers(file.config))
        features |= confine::changing;
    if (changes || device_of<VfioConfig>(file.config) != nullptr)
        features |= confine::vfio;
    return features;
}

Result<void> confine_template(Seccomp seccomp) {
    return confine::confine(
        {.refusal = refusal_of(seccomp), .exit_code = confine::refusal_code, .before_end = restore_terminal});
}

Result<void> confine_process(const ConfigFile& file, Manner manner) {
    if (!file.api.socket.empty() || !file.api.id.empty())
        static_cast<void>(snapshot::page_map()); // while it can be opened
    if (file.run.seccomp == Seccomp::off)
        return {};
    confine::Plan plan{.refusal = refusal_of(file.run.seccomp),
                       .features = features_of(file),
                       .exit_code = confine::refusal_code,
                       .before_end = restore_terminal};
    if (manner == Manner::firecracker) {
        constexpr int bad_system_call = 148;
        plan.visible = true; // its clients look there
        plan.exit_code = bad_system_call;
        plan.log_line = "Shutting down VM after intercepting signal 31, code 1.";
        plan.log_line_with_number = "Shutting down VM after intercepting a bad syscall (%d).";
    }
    return confine::confine(plan);
}

} // namespace inox::cli
