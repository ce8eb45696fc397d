// SPDX-License-Identifier: Apache-2.0
#include "vmm/machine/device_preflight.hpp"

#include <algorithm>

#include "devices/dsa/forwarder.hpp"
#include "devices/virtio/vhost_user.hpp"
#include "devices/virtio/vsock_listener.hpp"
#include "vmm/base/os.hpp"
#include "vmm/machine/tap_check.hpp"

namespace vmm {
namespace {

class DevicePreflight {
public:
    DevicePreflight(const Config& config, std::span<const Error> known) : config_{config}, known_{known} {}

    /// Paths that could not be read are empty.
    std::vector<Error> run() {
        // In the order of a start: of two that want the same image, the same one is refused.
        check_drives(true);
        check_drives(false);
        for (std::size_t i = 0; i < config_.nets.size(); ++i)
            if (const auto& net = config_.nets[i]; !net.tap.empty())
                take(check_tap(net.tap, net.queue_pairs), place("/network-interfaces", i) + "/host_dev_name");
        if (config_.vsock && !config_.vsock->uds_path.empty())
            take(devices::virtio::VsockListener::check(config_.vsock->uds_path), "/vsock/uds_path");
        if (config_.console && !config_.console->path.empty())
            take(check_output(config_.console->path), "/console/path");
        for (std::size_t i = 0; i < config_.shares.size(); ++i)
            if (const auto& socket = config_.shares[i].socket; !socket.empty())
                take(devices::virtio::VhostUser::check(socket), place("/shares", i) + "/socket");
        if (config_.dsa && !config_.dsa->forward.empty())
            take(devices::dsa::HostQueue::open(config_.dsa->forward), "/dsa/forward");
        return std::move(problems_);
    }

private:
    static std::string place(const char* list, std::size_t index) { return list + ("/" + std::to_string(index)); }

    void check_drives(bool root) {
        for (std::size_t i = 0; i < config_.drives.size(); ++i) {
            const auto& drive = config_.drives[i];
            if (drive.root != root || drive.block.path.empty())
                continue;
            const auto where = place("/drives", i);
            // One that was not read completely may be meant to be read-only.
            const bool unsure = std::ranges::any_of(
                known_, [prefix = where + "/"](const Error& one) { return one.where.starts_with(prefix); });
            auto image = devices::virtio::BlockFile::open(drive.block.path, drive.block.read_only || unsure);
            if (image)
                images_.push_back(std::move(*image)); // its lock keeps the others out
            else
                take(image, where + "/path_on_host");
        }
    }

    template <class T> void take(const Result<T>& checked, std::string where) {
        if (checked)
            return;
        problems_.push_back(checked.error());
        problems_.back().where = std::move(where);
    }

    const Config& config_;
    std::span<const Error> known_;
    std::vector<devices::virtio::BlockFile> images_{};
    std::vector<Error> problems_{};
};

} // namespace

std::vector<Error> device_preflight(const Config& config, std::span<const Error> known) {
    return DevicePreflight{config, known}.run();
}

} // namespace vmm
