// SPDX-License-Identifier: Apache-2.0
#include "vmm/host/device_preflight.hpp"

#include <algorithm>

#include "devices/dsa/forwarder.hpp"
#include "devices/virtio/block/file.hpp"
#include "devices/virtio/vhost_user.hpp"
#include "devices/virtio/vsock/listener.hpp"
#include "vmm/host/tap_check.hpp"

namespace inox {
namespace {

class DevicePreflight {
public:
    DevicePreflight(const Config& config, std::span<const Error> known) : config_{config}, known_{known} {}

    /// In the order of a start: of two that want the same image, the same one is refused.
    std::vector<Error> run() {
        for (const auto& device : placed_devices(config_)) {
            where_ = device.where;
            std::visit(*this, device.config);
        }
        return std::move(problems_);
    }

    // One overload for each kind of DeviceConfig. Paths that could not be read are empty.
    void operator()(const DriveConfig& drive) {
        if (drive.block.path.empty())
            return;
        // One that was not read completely may be meant to be read-only.
        const auto prefix = where_.substr(0, where_.rfind('/') + 1);
        const bool unsure =
            std::ranges::any_of(known_, [&](const Error& one) { return one.where.starts_with(prefix); });
        auto image =
            devices::virtio::BlockFile::open(drive.block.path, drive.block.read_only || unsure, drive.block.contents);
        if (image)
            images_.push_back(std::move(*image)); // its lock keeps the others out
        else
            take(image);
    }
    void operator()(const devices::virtio::NetOptions& net) {
        if (!net.tap.empty())
            take(check_tap(net.tap, net.queue_pairs));
    }
    void operator()(const devices::virtio::VsockOptions& vsock) {
        if (!vsock.uds_path.empty())
            take(devices::virtio::VsockListener::check(vsock.uds_path));
    }
    void operator()(const devices::virtio::FsOptions& share) {
        if (!share.socket.empty())
            take(devices::virtio::VhostUser::check(share.socket));
    }
    void operator()(const DsaConfig& dsa) {
        if (!dsa.forward.empty())
            take(devices::dsa::HostQueue::open(dsa.forward));
    }
    void operator()(const devices::virtio::EntropyOptions& /*entropy*/) {}
    void operator()(const devices::virtio::BalloonOptions& /*balloon*/) {}
    void operator()(const ConsoleConfig& /*console*/) {} // its file is one of the outputs
    void operator()(const VfioConfig& /*device*/) {}     // in vfio_preflight

private:
    template <class T> void take(const Result<T>& checked) {
        if (checked)
            return;
        problems_.push_back(checked.error());
        problems_.back().where = where_;
    }

    const Config& config_;
    std::span<const Error> known_;
    std::string where_{}; ///< of the device that is being looked at
    std::vector<devices::virtio::BlockFile> images_{};
    std::vector<Error> problems_{};
};

} // namespace

std::vector<Error> device_preflight(const Config& config, std::span<const Error> known) {
    return DevicePreflight{config, known}.run();
}

} // namespace inox
