// SPDX-License-Identifier: Apache-2.0
#include "vmm/machine/descriptors_needed.hpp"

#include <cerrno>
#include <sys/resource.h>

namespace inox {
namespace {

// Counted in /proc/PID/fd of machines with one device of each kind.
constexpr std::size_t process = 16;
constexpr std::size_t each_device = 8; // its files, its interrupt for changes, what watches them
constexpr std::size_t each_queue = 3;  // doorbell, who watches it, interrupt
constexpr std::size_t each_vfio = 48;  // device, group, error and request events, vectors of an ordinary device
constexpr std::size_t api = 16;        // its loop, its socket, some clients

std::size_t virtio(std::size_t queues) { return each_device + each_queue * queues; }

} // namespace

std::size_t descriptors_needed(const ConfigFile& file) {
    const auto& config = file.config;
    std::size_t sum = process + config.machine.cpus + (file.api.socket.empty() ? 0 : api);
    for (const auto& drive : config.drives)
        sum += virtio(drive.block.queues);
    for (const auto& net : config.nets)
        sum += virtio(2 * std::size_t{net.queue_pairs} + 1) + net.queue_pairs;
    constexpr std::size_t queues_of_most = 3;
    sum += config.shares.size() * virtio(queues_of_most);
    for (const bool present : {config.vsock.has_value(), config.entropy.has_value(), config.balloon.has_value(),
                               config.console.has_value(), config.iommu.has_value()})
        sum += present ? virtio(queues_of_most) : 0;
    return sum + config.vfio.size() * each_vfio;
}

Error with_descriptor_limit(Error error, const ConfigFile& file) {
    rlimit limit{};
    if (error.sys_errno != EMFILE || ::getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return error;
    error.code = Errc::host_error;
    error.hint = format("raise the limit on open files: ulimit -n allows %llu, and this machine needs about %zu",
                        static_cast<unsigned long long>(limit.rlim_cur), descriptors_needed(file));
    return error;
}

} // namespace inox
