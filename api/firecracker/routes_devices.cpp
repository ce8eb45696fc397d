// SPDX-License-Identifier: Apache-2.0
// Disks, network interfaces, vsock, entropy, assigned devices.
#include <algorithm>
#include <fcntl.h>

#include "api/routes_paths.hpp"
#include "api/routes_reply.hpp"
#include "vmm/base/os.hpp"
#include "vmm/host/tap_check.hpp"

namespace inox::api {

namespace {

constexpr const char* drive_error = "Drive config error: ";
constexpr const char* net_error = "Network config error: ";
/// That a configuration may have before the start. Any machine has room for fewer, which the start tells; but before it
/// the list must not grow without bound, and each change of it costs a look at all.
constexpr std::size_t most_stored = 64;

Response different_ids() {
    return refusal(Errc::bad_option, "The id from the path does not match the id from the body!",
                   "send the same id twice");
}

Response different_net_ids(const std::string& path, const std::string& body) {
    return refusal(Errc::bad_option,
                   "The id from the path [" + path + "] does not match the id from the body [" + body + "]!",
                   "send the same id twice");
}

using devices::virtio::NetOptions;

/// Before the start, stores the device in place of the one with its id, or adds it.
Result<void> store(Services& services, const DeviceConfig& device) {
    const auto& stored = services.instance.file().config.devices;
    if (stored.size() >= most_stored && std::ranges::find(stored, device_name(device), device_name) == stored.end())
        return fail(Errc::no_resource, format("%zu devices are configured already", stored.size()),
                    "use fewer devices");
    return services.instance.configure([&](ConfigFile& file) { put_device(file.config, device); });
}

bool running(const Services& services) { return services.instance.state() != Instance::State::not_started; }

Response added(const Result<DeviceStatus>& status, const char* prefix) {
    if (status)
        return done();
    const Error error = firecracker::in_words(status.error());
    if (error.code == Errc::no_resource)
        return refusal(error, "PCI manager error: ");
    return refusal(error, error.as<IdTaken>() || error.as<PciOff>() ? "" : prefix);
}

Response removed(const Result<void>& result) {
    if (result)
        return done();
    Error error = result.error();
    if (error.as<NoDevice>())
        error.hint = "GET /inox/devices lists them";
    return refusal(firecracker::in_words(std::move(error)));
}

/// Whether opening the device failed, and not the rules for adding one.
bool is_of_host(const Error& error) {
    return error.where.empty() && std::holds_alternative<std::monostate>(error.detail);
}

/// Firecracker's words for a tap that cannot be used.
Error tap_problem(Error error, const std::string& tap) {
    error.what = "Could not create the network device: Open tap device failed: Error while creating ifreq structure: " +
                 error.message() + ". Invalid TUN/TAP Backend provided by " + tap +
                 ". Check our documentation on setting up the network devices.";
    error.sys_errno = 0;
    return error;
}

/// Firecracker's words for an image that cannot be opened.
Error image_problem(Error error, const std::string& path) {
    error.what =
        "Unable to create the virtio block device: Virtio backend error: Error manipulating the backing file: " +
        firecracker::os_error(error) + " " + path;
    error.sys_errno = 0;
    if (error.hint.empty())
        error.hint = "check the path and its permissions";
    return error;
}

Result<void> check_image(const std::string& path, bool read_only) {
    auto file = open_file(path, (read_only ? O_RDONLY : O_RDWR) | O_NONBLOCK, Errc::disk_missing);
    if (file)
        return {};
    return std::unexpected<Error>{image_problem(std::move(file).error(), path)};
}

} // namespace

// Drives

Prepared put_drive(Call& call) {
    auto body = read_section("drives", call.request.body);
    const auto* missing = body.problem ? body.problem->as<MissingKey>() : nullptr;
    if (missing != nullptr && missing->key == "path_on_host")
        return refusal(Errc::config_missing_key,
                       std::string{drive_error} + "Unable to create the virtio block device: Invalid block config.",
                       "name the image: path_on_host");
    if (body.refusal)
        return *body.refusal;
    const auto& drive = *device_of<DriveConfig>(body.file.config);
    if (drive.block.id != call.id)
        return different_ids();
    return Action{[drive](Services& services, const std::shared_ptr<Exchange>& exchange) {
        if (running(services))
            return services.instance.add_device(drive, [exchange, path = drive.block.path](auto status) {
                if (!status && status.error().sys_errno != 0)
                    return exchange->answer(refusal(image_problem(std::move(status).error(), path), drive_error));
                exchange->answer(added(status, drive_error));
            });
        const auto good = check_image(drive.block.path, drive.block.read_only || drive.block.temporary);
        exchange->answer(good ? outcome(store(services, drive), drive_error) : refusal(good.error(), drive_error));
    }};
}

Prepared patch_drive(Call& call) {
    auto body = read_change("drives", call.request.body, {"drive_id", "path_on_host", "rate_limiter"});
    if (body.refusal)
        return *body.refusal;
    const auto& drive = *device_of<DriveConfig>(body.file.config);
    if (drive.block.id != call.id)
        return different_ids();
    return Action{[drive](Services& services, const std::shared_ptr<Exchange>& exchange) {
        services.instance.change_drive(drive.block.id, drive.block.path, drive.block.limits,
                                       [exchange](const Result<void>& changed) {
                                           if (changed)
                                               return exchange->answer(done());
                                           Error error = firecracker::in_words(changed.error());
                                           error.what = "Unable to patch the block device: " + error.message() +
                                                        " Please verify the request arguments.";
                                           error.sys_errno = 0;
                                           exchange->answer(refusal(error, drive_error));
                                       });
    }};
}

Prepared delete_drive(Call& call) {
    return answering([id = call.id](Services& services) {
        const auto drives = devices_of<DriveConfig>(services.instance.file().config);
        if (std::ranges::any_of(drives, [&](const auto* drive) { return drive->block.id == id && drive->root; }))
            return refusal(Errc::wrong_state, "Cannot unplug root device", "the guest runs from it");
        return removed(services.instance.remove_device({kind_of<DriveConfig>, id}, Removal::asked));
    });
}

// Network interfaces

Prepared put_net(Call& call) {
    auto body = read_section("network-interfaces", call.request.body);
    if (body.refusal)
        return *body.refusal;
    const auto& net = *device_of<NetOptions>(body.file.config);
    if (net.id != call.id)
        return different_net_ids(call.id, net.id);
    return Action{[net](Services& services, const std::shared_ptr<Exchange>& exchange) {
        if (running(services))
            return services.instance.add_device(net, [exchange, tap = net.tap](auto status) {
                if (!status && !tap.empty() && is_of_host(status.error()))
                    return exchange->answer(refusal(tap_problem(std::move(status).error(), tap), net_error));
                exchange->answer(added(status, net_error));
            });
        if (auto good = check_way(net); !good)
            return exchange->answer(net.tap.empty() ? outcome(good, net_error)
                                                    : refusal(tap_problem(good.error(), net.tap), net_error));
        exchange->answer(outcome(store(services, net), net_error));
    }};
}

Prepared patch_net(Call& call) {
    auto body =
        read_change("network-interfaces", call.request.body, {"iface_id", "rx_rate_limiter", "tx_rate_limiter"});
    if (body.refusal)
        return *body.refusal;
    const auto& net = *device_of<NetOptions>(body.file.config);
    if (net.id != call.id)
        return different_net_ids(call.id, net.id);
    return answering([net](Services& services) {
        return outcome(services.instance.change_net(net.id, net.receive_limits, net.send_limits), net_error);
    });
}

Prepared delete_net(Call& call) {
    return answering([id = call.id](Services& services) {
        return removed(services.instance.remove_device({kind_of<NetOptions>, id}, Removal::asked));
    });
}

// The rest

Prepared put_vsock(Call& call) {
    auto body = read_section("vsock", call.request.body);
    if (body.refusal)
        return *body.refusal;
    return answering([vsock = *device_of<devices::virtio::VsockOptions>(body.file.config),
                      deprecated = body.has("vsock_id")](Services& services) {
        auto response = outcome(store(services, vsock), "Vsock config error: ");
        response.deprecated = deprecated;
        return response;
    });
}

Prepared put_entropy(Call& call) {
    auto body = read_section("entropy", call.request.body);
    if (body.refusal)
        return *body.refusal;
    return answering([entropy = *device_of<devices::virtio::EntropyOptions>(body.file.config)](Services& services) {
        return outcome(store(services, entropy), "Entropy config error: ");
    });
}

Prepared put_passthrough(Call& call) {
    const auto body = read_section("device-passthrough", call.request.body);
    if (body.refusal)
        return *body.refusal;
    const auto& device = *device_of<VfioConfig>(body.file.config);
    if (device.open.id != call.id)
        return different_ids();
    return answering([device](Services& services) {
        const auto stored = store(services, device);
        if (stored)
            return done();
        Error error = firecracker::in_words(stored.error());
        if (error.as<HostDeviceTaken>())
            error.what = "Duplicate device passthrough SBDF: " + device.open.host;
        return refusal(error, "Device passthrough config error: ");
    });
}

Prepared put_pmem(Call& /*call*/) {
    return refusal(Errc::unsupported,
                   "The requested operation is not supported: persistent memory is not in this version of inox",
                   "use a drive");
}

Prepared put_memory_hotplug(Call& /*call*/) {
    return refusal(Errc::unsupported,
                   "The requested operation is not supported: memory hot-plug is not in this version of inox",
                   "use a balloon");
}

} // namespace inox::api
