// SPDX-License-Identifier: Apache-2.0
// The instance, the machine, its kernel and its start.
#include <algorithm>
#include <fcntl.h>

#include "api/firecracker/json_config.hpp"
#include "api/firecracker/log_and_metrics.hpp"
#include "api/firecracker/protocol.hpp"
#include "api/routes_paths.hpp"
#include "api/routes_reply.hpp"
#include "vmm/base/os.hpp"
#include "vmm/config/config_sections.hpp"
#include "vmm/instance/logging.hpp"

namespace inox::api {

namespace {

std::optional<Response> cannot_open(const std::string& path, Errc code, const std::string& text) {
    const auto file = open_file(path, O_RDONLY | O_NONBLOCK, code);
    if (file)
        return std::nullopt;
    const auto& error = file.error(); // with a code and a hint of its own where inox is confined
    return refusal(error.code, text + firecracker::os_error(error),
                   error.hint.empty() ? "check the path '" + path + "'" : error.hint);
}

Response store_machine(Services& services, const MachineConfig& machine) {
    const auto stored = services.instance.configure([&](ConfigFile& file) {
        const auto transport = file.config.machine.transport;
        const auto most_cpus = file.config.machine.most_cpus;
        auto cpuid = std::move(file.config.machine.cpuid);
        file.config.machine = machine;
        file.config.machine.transport = transport;
        file.config.machine.most_cpus = most_cpus;
        file.config.machine.cpuid = std::move(cpuid);
    });
    return outcome(stored, "Machine config error: ");
}

/// The metadata service keeps interfaces that are unplugged, but a configuration that starts a guest may name only
/// those that exist.
void forget_unplugged(ConfigFile& file) {
    if (!file.mmds)
        return;
    std::erase_if(file.mmds->interfaces, [&](const auto& id) {
        return std::ranges::none_of(devices_of<devices::virtio::NetOptions>(file.config),
                                    [&](const auto* net) { return net->id == id; });
    });
    if (file.mmds->interfaces.empty())
        file.mmds.reset();
}

Response start_answer(const Result<void>& started) {
    if (started)
        return done();
    Error error = firecracker::in_words(started.error());
    if (error.code == Errc::memory_unavailable)
        error.what = "Invalid Memory Configuration: " + error.what;
    if (error.code == Errc::kernel_invalid || error.code == Errc::kernel_does_not_fit)
        error.what = "Cannot load kernel due to invalid memory configuration or invalid kernel image: " + error.what;
    return refusal(error, "Start microvm error: ");
}

} // namespace

// The instance

Prepared get_instance(Call& /*call*/) {
    return answering([](Services& services) {
        return ok({{"id", services.instance.identity().id},
                   {"state", state_text(services.instance.state())},
                   {"vmm_version", firecracker::version},
                   {"app_name", "Firecracker"}});
    });
}

Prepared get_version(Call& /*call*/) {
    return ok({{"firecracker_version", firecracker::version}, {"inox_version", INOX_VERSION}});
}

Prepared get_vm_config(Call& /*call*/) {
    return answering([](Services& services) {
        if (services.instance.state() == Instance::State::not_started)
            return ok(vm_config_json(services.instance.file()));
        ConfigFile file = services.instance.file();
        forget_unplugged(file);
        return ok(vm_config_json(file));
    });
}

Prepared patch_vm(Call& call) {
    const auto body = read_object(call.request.body, {{"state", FieldSpec::Type::text}}, Unknown::ignored);
    if (body.refusal)
        return *body.refusal;
    const auto state = body.root.at("state").get<std::string>();
    if (state != "Paused" && state != "Resumed")
        return body_refusal(not_one_of(state, {"Paused", "Resumed"}, "/state"), {body.root, call.request.body});
    return answering([pause = state == "Paused"](Services& services) {
        return outcome(pause ? services.instance.pause() : services.instance.resume(), "Internal VMM error: ");
    });
}

Prepared put_actions(Call& call) {
    const auto body = read_object(call.request.body, {{"action_type", FieldSpec::Type::text}});
    if (body.refusal)
        return *body.refusal;
    const auto action = body.root.at("action_type").get<std::string>();
    if (action == "InstanceStart")
        return during(Phase::before_start, [](Services& services, const std::shared_ptr<Exchange>& exchange) {
            services.instance.start(
                [exchange](const Result<void>& started) { exchange->answer(start_answer(started)); });
        });
    if (action == "SendCtrlAltDel")
        return during(Phase::after_start, answering([](Services& services) {
                          return outcome(services.instance.send_ctrl_alt_del(), "Internal VMM error: ");
                      }));
    if (action == "FlushMetrics")
        return during(Phase::after_start, answering([](Services& services) {
                          return outcome(services.instance.flush_metrics(), "Internal VMM error: ");
                      }));
    return body_refusal(not_one_of(action, {"InstanceStart", "FlushMetrics", "SendCtrlAltDel"}, "/action_type"),
                        {body.root, call.request.body});
}

// The machine

Prepared get_machine_config(Call& /*call*/) {
    return answering(
        [](Services& services) { return ok(machine_config_json(services.instance.file().config.machine)); });
}

Prepared put_machine_config(Call& call) {
    auto body = read_section("machine-config", call.request.body);
    if (body.refusal)
        return *body.refusal;
    return answering([machine = body.file.config.machine, deprecated = body.has("cpu_template")](Services& services) {
        auto response = store_machine(services, machine);
        response.deprecated = deprecated;
        return response;
    });
}

Prepared patch_machine_config(Call& call) {
    auto body = read_section("machine-config", call.request.body, std::nullopt);
    if (body.refusal)
        return *body.refusal;
    if (body.keys.empty())
        return refusal(Errc::config_missing_key, "Empty PATCH request.", "send at least one field");
    // Reads the section again when its turn comes, over what is configured by then.
    return answering([root = std::move(body.root), deprecated = body.has("cpu_template")](Services& services) {
        auto changed = parse_section("machine-config", root, services.instance.file(), std::nullopt);
        auto response = store_machine(services, changed.file.config.machine);
        response.deprecated = deprecated;
        return response;
    });
}

Prepared put_cpu_config(Call& call) {
    auto body = read_section("cpu-config", call.request.body);
    if (body.refusal)
        return *body.refusal;
    return answering([cpuid = std::move(body.file.config.machine.cpuid)](Services& services) {
        return outcome(services.instance.configure([&](ConfigFile& file) { file.config.machine.cpuid = cpuid; }),
                       "Configure CPU error: ");
    });
}

Prepared put_boot_source(Call& call) {
    auto body = read_section("boot-source", call.request.body);
    if (body.refusal)
        return *body.refusal;
    if (!body.has("boot_args") || body.file.config.boot.cmdline.empty())
        use_default_cmdline(body.file.config.boot, firecracker_cmdline);
    return answering([boot = std::move(body.file.config.boot)](Services& services) {
        if (auto refused =
                cannot_open(boot.kernel, Errc::kernel_missing, "Boot source error: The kernel file cannot be opened: "))
            return *refused;
        if (!boot.initrd.empty())
            if (auto refused = cannot_open(boot.initrd, Errc::initrd_missing,
                                           "Boot source error: The initrd file cannot be opened due to "
                                           "invalid path or invalid permissions. "))
                return *refused;
        return outcome(services.instance.configure([&](ConfigFile& file) { file.config.boot = boot; }),
                       "Boot source error: ");
    });
}

// Around the guest

Prepared put_logger(Call& call) {
    auto body = read_section("logger", call.request.body);
    if (body.refusal)
        return *body.refusal;
    return answering([root = std::move(body.root)](Services& services) {
        auto changed = parse_section("logger", root, services.instance.file(), Dialect::firecracker);
        const auto id = services.instance.identity().id;
        if (auto opened = use_log(changed.file.log, firecracker::log_shape, id); !opened)
            return refusal(opened.error(), "Logger error: ");
        return outcome(services.instance.configure([&](ConfigFile& file) { file.log = changed.file.log; }),
                       "Logger error: ");
    });
}

Prepared put_metrics(Call& call) {
    auto body = read_section("metrics", call.request.body);
    if (body.refusal)
        return *body.refusal;
    return answering([metrics = *body.file.metrics](Services& services) {
        return outcome(services.instance.use_metrics(metrics), "Metrics error: ");
    });
}

Prepared put_serial(Call& call) {
    auto body = read_section("serial", call.request.body);
    if (body.refusal)
        return *body.refusal;
    return answering([serial = body.file.serial](Services& services) {
        return outcome(services.instance.configure([&](ConfigFile& file) { file.serial = serial; }));
    });
}

} // namespace inox::api
