// SPDX-License-Identifier: Apache-2.0
#include "vmm/instance/snapshot/describe.hpp"

#include <ctime>
#include <nlohmann/json.hpp>

#include "vmm/base/plain_text.hpp"
#include "vmm/config/config_text.hpp"

namespace inox {
namespace {

std::string when(std::uint64_t seconds) {
    const auto time = static_cast<std::time_t>(seconds);
    std::tm parts{};
    std::array<char, 32> text{};
    if (::gmtime_r(&time, &parts) == nullptr || std::strftime(text.data(), text.size(), "%FT%TZ", &parts) == 0)
        return "at an unknown time";
    return text.data();
}

std::string name_on_host(const DeviceConfig& device) {
    if (const auto* drive = std::get_if<DriveConfig>(&device))
        return drive->block.path;
    if (const auto* net = std::get_if<devices::virtio::NetOptions>(&device))
        return !net->tap.empty() ? net->tap : net->user ? "user" : net->socket;
    if (const auto* vsock = std::get_if<devices::virtio::VsockOptions>(&device))
        return vsock->uds_path;
    if (const auto* console = std::get_if<ConsoleConfig>(&device))
        return console->path;
    return {};
}

} // namespace

std::string snapshot_text(const SavedMachine& saved) {
    const auto& machine = saved.config.machine;
    std::string out = "saved " + when(saved.origin.saved_at) + " by inox " + saved.origin.version + "\n";
    out += format("machine: %u CPU%s, %s of memory (%s of it %s), %s\n", machine.cpus, machine.cpus == 1 ? "" : "s",
                  size_text(saved.memory.size).c_str(), size_text(saved.memory.stored).c_str(),
                  saved.memory.diff ? "changed" : "not zero", machine.transport == Transport::pci ? "PCI" : "no PCI");
    if (saved.memory.diff)
        out += "a Diff: merge it with the snapshot that it is based on (inox snapshot merge)\n";
    for (const auto& device : saved.config.devices) {
        const auto host = name_on_host(device);
        out += device_name(device).text() + (host.empty() ? "" : ": " + host) + "\n";
    }
    for (auto& c : out)
        if (c != '\n' && static_cast<unsigned char>(c) < ' ')
            c = '?';
    return out;
}

std::string snapshot_json(const SavedMachine& saved) {
    nlohmann::ordered_json devices = nlohmann::ordered_json::array();
    for (const auto& device : saved.config.devices) {
        const auto name = device_name(device);
        devices.push_back({{"kind", kind_name(name.kind)}, {"id", name.id}, {"host", name_on_host(device)}});
    }
    const auto& machine = saved.config.machine;
    const nlohmann::ordered_json out{
        {"inox_version", saved.origin.version},        {"saved_at", saved.origin.saved_at},
        {"type", saved.memory.diff ? "Diff" : "Full"}, {"vcpus", machine.cpus},
        {"memory_bytes", saved.memory.size},           {"stored_bytes", saved.memory.stored},
        {"pci", machine.transport == Transport::pci},  {"devices", std::move(devices)}};
    return out.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

} // namespace inox
